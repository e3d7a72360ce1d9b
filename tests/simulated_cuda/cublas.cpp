// The matrix products of cuBLAS, as plain loops over column-major matrices that add in the product's own precision.
#include "simulated.h"

#include <cstddef>
#include <cstdlib>

namespace {

enum { SUCCESS = 0, NOT_SUPPORTED = 15 };
enum Type { REAL_32 = 0, REAL_64 = 1, REAL_16 = 2 }; // cudaDataType
const int SIZES[] = {4, 8, 2};

template <class Stored, class Sum> struct Matrix {
    const Stored *values;
    int stride;
    bool transposed;

    Sum at(int row, int column) const {
        return Sum(transposed ? values[size_t(row) * stride + column] : values[size_t(column) * stride + row]);
    }
};

template <class Stored, class Sum>
void multiply(int m, int n, int k, Sum alpha, Matrix<Stored, Sum> a, Matrix<Stored, Sum> b, Sum beta, Stored *c, int stride) {
    for (int j = 0; j < n; ++j)
        for (int i = 0; i < m; ++i) {
            Sum sum = 0;
            for (int l = 0; l < k; ++l) sum += a.at(i, l) * b.at(l, j);
            Stored &entry = c[size_t(j) * stride + i];
            entry = Stored(beta == Sum(0) ? alpha * sum : alpha * sum + beta * Sum(entry)); // β = 0 reads nothing
        }
}

template <class Stored, class Sum>
int product(int ta, int tb, int m, int n, int k, const void *alpha, const void *a, int lda, const void *b, int ldb,
            const void *beta, void *c, int ldc) {
    ++counts[LAUNCHES];
    multiply<Stored, Sum>(m, n, k, *static_cast<const Sum *>(alpha), {static_cast<const Stored *>(a), lda, ta != 0},
                          {static_cast<const Stored *>(b), ldb, tb != 0}, *static_cast<const Sum *>(beta),
                          static_cast<Stored *>(c), ldc);
    return SUCCESS;
}

int product_of(int type, int ta, int tb, int m, int n, int k, const void *alpha, const void *a, int lda, const void *b, int ldb,
               const void *beta, void *c, int ldc) {
    switch (type) {
    case REAL_32: return product<float, float>(ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
    case REAL_64: return product<double, double>(ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
    case REAL_16: return product<_Float16, float>(ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
    default: return NOT_SUPPORTED;
    }
}

template <class Real>
int of_vector(int transposed, int m, int n, const Real *alpha, const Real *a, int lda, const Real *x, int x_step,
              const Real *beta, Real *y, int y_step) {
    ++counts[LAUNCHES];
    Matrix<Real, Real> matrix{a, lda, transposed != 0};
    int rows = transposed ? n : m, columns = transposed ? m : n;
    for (int i = 0; i < rows; ++i) {
        Real sum = 0;
        for (int j = 0; j < columns; ++j) sum += matrix.at(i, j) * x[j * x_step];
        Real &entry = y[i * y_step];
        entry = *beta == Real(0) ? *alpha * sum : *alpha * sum + *beta * entry;
    }
    return SUCCESS;
}

template <class Real> int dot(int n, const Real *x, int x_step, const Real *y, int y_step, Real *result) {
    ++counts[LAUNCHES];
    *result = 0;
    for (int i = 0; i < n; ++i) *result += x[i * x_step] * y[i * y_step];
    return SUCCESS;
}

} // namespace

EXPORT int cublasCreate_v2(void **handle) { *handle = malloc(8); return SUCCESS; }
EXPORT int cublasDestroy_v2(void *handle) { free(handle); return SUCCESS; }
EXPORT int cublasGetVersion_v2(void *, int *version) { *version = 130200; return SUCCESS; }
EXPORT int cublasSetStream_v2(void *, void *) { return SUCCESS; }
EXPORT int cublasGetStream_v2(void *, void **stream) { *stream = nullptr; return SUCCESS; }
EXPORT int cublasSetMathMode(void *, int) { return SUCCESS; }
EXPORT int cublasGetMathMode(void *, int *mode) { *mode = 0; return SUCCESS; }
EXPORT int cublasSetPointerMode_v2(void *, int) { return SUCCESS; }
EXPORT int cublasGetPointerMode_v2(void *, int *mode) { *mode = 0; return SUCCESS; }
EXPORT int cublasSetWorkspace_v2(void *, void *, size_t) { return SUCCESS; }

EXPORT int cublasSgemm_v2(void *, int ta, int tb, int m, int n, int k, const float *alpha, const float *a, int lda,
                          const float *b, int ldb, const float *beta, float *c, int ldc) {
    return product<float, float>(ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}
EXPORT int cublasDgemm_v2(void *, int ta, int tb, int m, int n, int k, const double *alpha, const double *a, int lda,
                          const double *b, int ldb, const double *beta, double *c, int ldc) {
    return product<double, double>(ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}
EXPORT int cublasGemmEx(void *, int ta, int tb, int m, int n, int k, const void *alpha, const void *a, int type, int lda,
                        const void *b, int, int ldb, const void *beta, void *c, int, int ldc, int, int) {
    return product_of(type, ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}
EXPORT int cublasSgemmEx(void *, int ta, int tb, int m, int n, int k, const float *alpha, const void *a, int type, int lda,
                         const void *b, int, int ldb, const float *beta, void *c, int, int ldc) {
    return product_of(type, ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}
EXPORT int cublasGemmStridedBatchedEx(void *, int ta, int tb, int m, int n, int k, const void *alpha, const void *a, int type,
                                      int lda, long long a_step, const void *b, int, int ldb, long long b_step,
                                      const void *beta, void *c, int, int ldc, long long c_step, int number, int, int) {
    if (type < 0 || type > REAL_16) return NOT_SUPPORTED;
    for (long long i = 0; i < number; ++i) {
        auto at = [&](const void *start, long long step) { return static_cast<const char *>(start) + SIZES[type] * step * i; };
        product_of(type, ta, tb, m, n, k, alpha, at(a, a_step), lda, at(b, b_step), ldb, beta,
                   const_cast<char *>(at(c, c_step)), ldc);
    }
    return SUCCESS;
}
EXPORT int cublasSgemv_v2(void *, int t, int m, int n, const float *alpha, const float *a, int lda, const float *x, int x_step,
                          const float *beta, float *y, int y_step) {
    return of_vector(t, m, n, alpha, a, lda, x, x_step, beta, y, y_step);
}
EXPORT int cublasDgemv_v2(void *, int t, int m, int n, const double *alpha, const double *a, int lda, const double *x,
                          int x_step, const double *beta, double *y, int y_step) {
    return of_vector(t, m, n, alpha, a, lda, x, x_step, beta, y, y_step);
}
EXPORT int cublasSdot_v2(void *, int n, const float *x, int x_step, const float *y, int y_step, float *result) {
    return dot(n, x, x_step, y, y_step, result);
}
EXPORT int cublasDdot_v2(void *, int n, const double *x, int x_step, const double *y, int y_step, double *result) {
    return dot(n, x, x_step, y, y_step, result);
}
