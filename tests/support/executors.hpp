#pragma once
/// Executors for tests: they run tasks out of order and on other threads, so that nothing may depend on either.
#include <algorithm>
#include <atomic>
#include <numeric>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include <po2quant/parallel.hpp>

namespace po2quant::test {

/// One type for all, so that a test instantiates the ops once.
struct test_executor {
    enum kind { shuffled_threads, openmp_threads, plain_loop };
    kind where = shuffled_threads;
    int threads = 1;

    std::string name() const {
        if (where == plain_loop) return "a plain loop";
        return std::to_string(threads) + (where == openmp_threads ? " OpenMP threads" : " threads, shuffled");
    }

    template <class F>
    void parallel_for(std::int64_t tasks, F&& f) const {
#if defined(_OPENMP)
        if (where == openmp_threads) {
            openmp_executor{threads}.parallel_for(tasks, f);
            return;
        }
#endif
        if (where == plain_loop) {  // allocates nothing
            for (std::int64_t task = 0; task < tasks; ++task) f(task);
            return;
        }
        std::vector<std::int64_t> order(static_cast<std::size_t>(tasks));
        std::iota(order.begin(), order.end(), 0);
        std::shuffle(order.begin(), order.end(), std::minstd_rand(static_cast<unsigned>(tasks * 8 + threads)));
        std::atomic<std::size_t> next = 0;
        const auto work = [&] {
            for (std::size_t i = next++; i < order.size(); i = next++) f(order[i]);
        };
#if defined(__wasm__)
        work();  // WASI has no threads
#else
        std::vector<std::thread> others;
        for (int t = 1; t < threads; ++t) others.emplace_back(work);
        work();
        for (std::thread& thread : others) thread.join();
#endif
    }
};

inline constexpr test_executor plain_loop{test_executor::plain_loop};

/// 1, 2, 3 and 7 threads, of OpenMP too where the build has it.
inline std::vector<test_executor> executors() {
    std::vector<test_executor> all;
    for (const int threads : {1, 2, 3, 7}) {
        all.push_back({test_executor::shuffled_threads, threads});
#if defined(_OPENMP)
        all.push_back({test_executor::openmp_threads, threads});
#endif
    }
    return all;
}

}  // namespace po2quant::test
