// nvcuda::wmma on the CPU: every lane holds the whole fragment and computes it; lane 0 stores it. Products of FP16 inputs
// are exact in FP32; the Tensor Core's order of summation within a fragment is not documented and may differ.
#pragma once
#include <cuda_fp16.h>

namespace nvcuda::wmma {
struct matrix_a {};
struct matrix_b {};
struct accumulator {};
struct row_major {};
struct col_major {};
enum layout_t { mem_row_major, mem_col_major };

template <class Use, int M, int N, int K, class T, class Layout = void>
struct fragment {
    static constexpr int rows = std::is_same_v<Use, matrix_b> ? K : M, cols = std::is_same_v<Use, matrix_a> ? K : N;
    static constexpr int num_elements = rows * cols;
    T x[num_elements];
};

template <class Use, int M, int N, int K, class T, class Layout>
void load_matrix_sync(fragment<Use, M, N, K, T, Layout>& f, const T* from, unsigned stride) {
    for (int r = 0; r < f.rows; ++r)
        for (int c = 0; c < f.cols; ++c) f.x[r * f.cols + c] = std::is_same_v<Layout, col_major> ? from[c * stride + r] : from[r * stride + c];
}
template <int M, int N, int K, class T>
void store_matrix_sync(T* to, const fragment<accumulator, M, N, K, T>& f, unsigned stride, layout_t layout) {
    if (cuda_cpu::lane() == 0)
        for (int r = 0; r < M; ++r)
            for (int c = 0; c < N; ++c) to[layout == mem_row_major ? r * stride + c : c * stride + r] = f.x[r * N + c];
}
template <class F, class T>
void fill_fragment(F& f, T value) {
    for (auto& x : f.x) x = value;
}
template <int M, int N, int K, class T, class A, class B, class LA, class LB>
void mma_sync(fragment<accumulator, M, N, K, T>& d, const fragment<matrix_a, M, N, K, A, LA>& a, const fragment<matrix_b, M, N, K, B, LB>& b,
              const fragment<accumulator, M, N, K, T>& c) {
    for (int r = 0; r < M; ++r)
        for (int col = 0; col < N; ++col) {
            float sum = float(c.x[r * N + col]);
            for (int k = 0; k < K; ++k) sum += float(a.x[r * K + k]) * float(b.x[k * N + col]);
            d.x[r * N + col] = T(sum);
        }
}
}  // namespace nvcuda::wmma
