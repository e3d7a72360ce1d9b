const { contrast } = require("./contrast.js"); // what is judged
const hello = { arguments: ["query", "positive_key", "temperature"], dtypes: ["float64", "float32"] };

const decode = (hex, dtype) => Buffer.from(hex, "hex")[dtype === "float64" ? "readDoubleBE" : "readFloatBE"]();
const encode = (x, dtype) => {
  const bytes = Buffer.alloc(dtype === "float64" ? 8 : 4);
  bytes[dtype === "float64" ? "writeDoubleBE" : "writeFloatBE"](x);
  return bytes.toString("hex");
};
const matrix = ({ dtype, shape: [n, d], bits }) =>
  Array.from({ length: n }, (_, i) => bits.slice(i * d, (i + 1) * d).map((hex) => decode(hex, dtype)));
const array = (numbers, shape, dtype) => ({ dtype, shape, bits: numbers.map((x) => encode(x, dtype)) });

function answer({ dtype, arrays: { query: q, positive_key: k }, temperature }) {
  const { loss, query, keys, dt } = contrast(matrix(q), matrix(k), decode(temperature, dtype));
  const grad = { query: array(query.flat(), q.shape, dtype), positive_key: array(keys.flat(), k.shape, dtype) };
  return { loss: array([loss], [], dtype), grad: { ...grad, temperature: array([dt], [], dtype) } };
}
require("readline").createInterface({ input: process.stdin }).on("line", (line) => {
  const { id, hello: asked, problem } = JSON.parse(line);
  console.log(JSON.stringify(asked ? { id, hello } : { id, ...answer(problem) }));
});
