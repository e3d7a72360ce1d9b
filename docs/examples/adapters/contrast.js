// An implementation to be judged: InfoNCE of cosines and its gradients. A query's negatives are all keys but its own.
// Matrices are arrays of rows.
const dot = (a, b) => a.reduce((sum, x, e) => sum + x * b[e], 0);
const length = (row) => Math.sqrt(dot(row, row));
const unit = (row) => row.map((x) => x / length(row));
const throughNorm = (row, u, g) => g.map((x, e) => (x - u[e] * dot(u, g)) / length(row));

exports.contrast = (query, keys, temperature) => {
  const [u, v] = [query.map(unit), keys.map(unit)];
  const [du, dv] = [query, keys].map((rows) => rows.map((row) => row.map(() => 0)));
  let [loss, dt] = [0, 0];
  u.forEach((a, i) => {
    const s = v.map((b) => dot(a, b) / temperature);
    const top = Math.max(...s);
    const sum = s.reduce((total, x) => total + Math.exp(x - top), 0);
    loss += (Math.log(sum) + top - s[i]) / query.length;
    s.forEach((x, j) => {
      const w = (Math.exp(x - top) / sum - (i === j)) / query.length / temperature; // ∂loss/∂s[j] over temperature
      dt -= w * x;
      a.forEach((_, e) => { du[i][e] += w * v[j][e]; dv[j][e] += w * a[e]; });
    });
  });
  const gradients = (rows, units, g) => rows.map((row, r) => throughNorm(row, units[r], g[r]));
  return { loss, dt, query: gradients(query, u, du), keys: gradients(keys, v, dv) };
};
