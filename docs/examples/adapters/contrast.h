// An implementation to be judged: InfoNCE of cosines and its gradients. A query's negatives are all keys but its own;
// rows n, n + 1, … of keys are nobody's own. Matrices lie row by row; the last three arguments receive gradients.
#include <math.h>
#include <stdlib.h>

static double dot(const double *a, const double *b, int d) {
    double sum = 0;
    for (int e = 0; e < d; e++) sum += a[e] * b[e];
    return sum;
}

// x becomes unit rows; their lengths are returned
static double *normalise(const double *x, double *unit, int rows, int d) {
    double *length = malloc((rows + 1) * sizeof *length);
    for (int r = 0; r < rows; r++) length[r] = sqrt(dot(x + r * d, x + r * d, d));
    for (int i = 0; i < rows * d; i++) unit[i] = x[i] / length[i / d];
    return length;
}

// the gradient of unit rows, in g, becomes that of the rows themselves
static void through_norm(const double *unit, const double *length, double *g, int rows, int d) {
    for (int r = 0; r < rows; r++) {
        double along = dot(unit + r * d, g + r * d, d);
        for (int e = 0; e < d; e++) g[r * d + e] = (g[r * d + e] - along * unit[r * d + e]) / length[r];
    }
}

double contrast(const double *query, const double *keys, int n, int c, int d, double temperature,
                double *g_query, double *g_keys, double *g_temperature) {
    double *u = calloc(n * d + 1, sizeof *u), *v = calloc(c * d + 1, sizeof *v), *s = calloc(c + 1, sizeof *s);
    double *u_length = normalise(query, u, n, d), *v_length = normalise(keys, v, c, d), loss = 0;
    for (int i = 0; i < n * d; i++) g_query[i] = 0;
    for (int i = 0; i < c * d; i++) g_keys[i] = 0;
    *g_temperature = 0;
    for (int i = 0; i < n; i++) {
        double top = -INFINITY, sum = 0;
        for (int j = 0; j < c; j++) top = fmax(top, s[j] = dot(u + i * d, v + j * d, d) / temperature);
        for (int j = 0; j < c; j++) sum += exp(s[j] - top);
        loss += (log(sum) + top - s[i]) / n;
        for (int j = 0; j < c; j++) {
            double w = (exp(s[j] - top) / sum - (j == i)) / n / temperature; // ∂loss/∂s[j] over temperature
            *g_temperature -= w * s[j];
            for (int e = 0; e < d; e++) g_query[i * d + e] += w * v[j * d + e], g_keys[j * d + e] += w * u[i * d + e];
        }
    }
    through_norm(u, u_length, g_query, n, d);
    through_norm(v, v_length, g_keys, c, d);
    free(u), free(v), free(s), free(u_length), free(v_length);
    return loss;
}
