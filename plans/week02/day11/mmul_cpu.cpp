// mmul_cpu.cpp: C = A B in FP32 on the CPU: the textbook's three loops, and blocks that stay in the caches.
//
//   g++ -O3 -march=native -fopenmp -Wall mmul_cpu.cpp -o mmul_cpu
//   ./mmul_cpu --variant blocked|naive --n 1024 --repeats 5          (--m, --k for rectangles)
//   ./mmul_cpu --m 70 --n 67 --k 33 --a a.bin --b b.bin --c c.bin    (raw row-major float32 files in, one out)
//
// naive walks down a column of B: a new cache line for each product. blocked keeps 6 x 32 elements of C in vector registers
// (as BLIS does), reads B from a panel that fits the L2 cache, and shares the rows of C among the cores.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

struct Shape { int m, n, k; };
using Matrix = std::vector<float>;

static void naive(const Matrix& a, const Matrix& b, Matrix& c, Shape s) {
    for (int row = 0; row < s.m; ++row)
        for (int col = 0; col < s.n; ++col) {
            float sum = 0.0f;
            for (int i = 0; i < s.k; ++i) sum += a[size_t(row) * s.k + i] * b[size_t(i) * s.n + col];
            c[size_t(row) * s.n + col] = sum;
        }
}

constexpr int kRows = 6, kCols = 32, kDepth = 256;  // a micro-tile of C; how much of k a panel of B holds (32 KiB)

// 16 floats: one AVX-512 register; the compiler makes two or four of it where the CPU has less.
typedef float Vector __attribute__((vector_size(64), aligned(4)));

// C[0..rows)[0..32) += A[0..rows)[0..depth) * panel: the sums stay in registers over the whole depth.
template <int ROWS>
static void micro(const float* a, const float* panel, float* c, int depth, int stride_a, int stride_c) {
    Vector sum[ROWS][2];
    for (int y = 0; y < ROWS; ++y)
        for (int x = 0; x < 2; ++x) std::memcpy(&sum[y][x], c + size_t(y) * stride_c + x * 16, sizeof(Vector));
    for (int i = 0; i < depth; ++i) {
        Vector left, right;
        std::memcpy(&left, panel + size_t(i) * kCols, sizeof(Vector));
        std::memcpy(&right, panel + size_t(i) * kCols + 16, sizeof(Vector));
        for (int y = 0; y < ROWS; ++y) {
            float value = a[size_t(y) * stride_a + i];
            sum[y][0] += value * left;
            sum[y][1] += value * right;
        }
    }
    for (int y = 0; y < ROWS; ++y)
        for (int x = 0; x < 2; ++x) std::memcpy(c + size_t(y) * stride_c + x * 16, &sum[y][x], sizeof(Vector));
}

// One panel against all rows. At the right edge C's part goes through a buffer that is 32 columns wide.
static void panel_times(const Matrix& a, const float* panel, Matrix& c, Shape s, int col, int start, int depth) {
    int cols = std::min(kCols, s.n - col);
    float edge[kRows * kCols];
    for (int row = 0; row < s.m; row += kRows) {
        int rows = std::min(kRows, s.m - row);
        const float* from = &a[size_t(row) * s.k + start];
        float* to = &c[size_t(row) * s.n + col];
        if (cols == kCols && rows == kRows) {
            micro<kRows>(from, panel, to, depth, s.k, s.n);
            continue;
        }
        for (int y = 0; y < rows; ++y) {
            std::fill(edge, edge + kCols, 0.0f);
            std::copy(to + size_t(y) * s.n, to + size_t(y) * s.n + cols, edge);
            micro<1>(from + size_t(y) * s.k, panel, edge, depth, s.k, kCols);
            std::copy(edge, edge + cols, to + size_t(y) * s.n);
        }
    }
}

static void blocked(const Matrix& a, const Matrix& b, Matrix& c, Shape s) {
    std::fill(c.begin(), c.end(), 0.0f);
    int panels = (s.n + kCols - 1) / kCols;
#pragma omp parallel for schedule(dynamic)
    for (int p = 0; p < panels; ++p) {  // a core owns whole columns of C: no two write the same element
        alignas(64) float panel[kDepth * kCols];
        int col = p * kCols, cols = std::min(kCols, s.n - col);
        for (int start = 0; start < s.k; start += kDepth) {
            int depth = std::min(kDepth, s.k - start);
            for (int i = 0; i < depth; ++i) {
                const float* row = &b[size_t(start + i) * s.n + col];
                std::fill(panel + i * kCols, panel + (i + 1) * kCols, 0.0f);
                std::copy(row, row + cols, panel + i * kCols);
            }
            panel_times(a, panel, c, s, col, start, depth);
        }
    }
}

static const char* option(int argc, char** argv, const char* name, const char* otherwise) {
    for (int i = 1; i + 1 < argc; i += 2)
        if (!std::strcmp(argv[i], name)) return argv[i + 1];
    return otherwise;
}

static Matrix input(const std::string& path, size_t size, unsigned seed) {
    Matrix values(size);
    if (path.empty()) {
        std::mt19937 engine(seed);
        std::uniform_real_distribution<float> uniform(-1.0f, 1.0f);
        for (float& value : values) value = uniform(engine);
    } else if (!std::ifstream(path, std::ios::binary).read(reinterpret_cast<char*>(values.data()), std::streamsize(size * sizeof(float)))) {
        throw std::runtime_error(path + " holds fewer than " + std::to_string(size) + " floats");
    }
    return values;
}

struct Errors { double absolute, relative; };

// Sums in double; large products on about 32 rows. Relative to sum |a||b|, the scale at which rounding happens.
static Errors compare(const Matrix& a, const Matrix& b, const Matrix& c, Shape s) {
    bool whole = double(s.m) * s.n * s.k <= double(1 << 26);
    int step = whole ? 1 : (std::max(1, s.m / 32) | 1);
    Errors worst{0, 0};
    std::vector<double> sum(s.n), scale(s.n);
    for (int row = s.m - 1; row >= 0; row -= step) {
        std::fill(sum.begin(), sum.end(), 0.0);
        std::fill(scale.begin(), scale.end(), 1e-30);
        for (int i = 0; i < s.k; ++i)
            for (int col = 0; col < s.n; ++col) {
                double product = double(a[size_t(row) * s.k + i]) * b[size_t(i) * s.n + col];
                sum[col] += product;
                scale[col] += std::fabs(product);
            }
        for (int col = 0; col < s.n; ++col) {
            double error = std::fabs(c[size_t(row) * s.n + col] - sum[col]);
            worst.absolute = error <= worst.absolute ? worst.absolute : error;  // written so that NaN is the worst
            worst.relative = error / scale[col] <= worst.relative ? worst.relative : error / scale[col];
        }
    }
    return worst;
}

static int measured(int argc, char** argv) {
    std::string variant = option(argc, argv, "--variant", "blocked"), out = option(argc, argv, "--c", "");
    int n = std::atoi(option(argc, argv, "--n", "1024"));
    Shape s{std::atoi(option(argc, argv, "--m", std::to_string(n).c_str())), n,
            std::atoi(option(argc, argv, "--k", std::to_string(n).c_str()))};
    int repeats = std::atoi(option(argc, argv, "--repeats", "5")), warmup = std::atoi(option(argc, argv, "--warmup", "1"));
    if (s.m < 1 || s.n < 1 || s.k < 1) throw std::runtime_error("sizes are at least 1");
    if (variant != "naive" && variant != "blocked") throw std::runtime_error("no variant " + variant);
    Matrix a = input(option(argc, argv, "--a", ""), size_t(s.m) * s.k, 1), b = input(option(argc, argv, "--b", ""), size_t(s.k) * s.n, 2);
    Matrix c(size_t(s.m) * s.n, NAN);
    std::vector<double> micros;
    std::string samples;
    for (int i = 0; i < warmup + repeats; ++i) {
        auto start = std::chrono::steady_clock::now();
        (variant == "naive" ? naive : blocked)(a, b, c, s);
        double us = std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - start).count();
        if (i < warmup) continue;
        micros.push_back(us);
        samples += (samples.empty() ? "" : ", ") + std::to_string(us);
    }
    if (micros.empty()) throw std::runtime_error("--repeats is at least 1");
    std::nth_element(micros.begin(), micros.begin() + micros.size() / 2, micros.end());
    Errors worst = compare(a, b, c, s);
    bool correct = worst.relative <= 1e-5;
    double flops = 2.0 * s.m * s.n * s.k;
    if (!out.empty() && !std::ofstream(out, std::ios::binary).write(reinterpret_cast<const char*>(c.data()), std::streamsize(c.size() * sizeof(float))))
        throw std::runtime_error("cannot write " + out);
    std::printf("{\"kernel\": \"mmul_cpu\", \"variant\": \"%s\", \"m\": %d, \"n\": %d, \"k\": %d, \"block\": 1, \"samples_us\": [%s], "
                "\"gflops\": %.6g, \"bytes\": %.0f, \"flops\": %.0f, \"max_abs_error\": %.3g, \"max_rel_error\": %.3g, \"correct\": %s}\n",
                variant.c_str(), s.m, s.n, s.k, samples.c_str(), flops / micros[micros.size() / 2] / 1e3,
                4.0 * (double(s.m) * s.k + double(s.k) * s.n + double(s.m) * s.n), flops, worst.absolute, worst.relative,
                correct ? "true" : "false");
    return correct ? 0 : 1;
}

int main(int argc, char** argv) {
    try {
        return measured(argc, argv);
    } catch (const std::exception& error) {
        std::fprintf(stderr, "mmul_cpu.cpp: %s\n", error.what());
        return 1;
    }
}
