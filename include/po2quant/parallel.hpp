#pragma once
/// Executors: who runs the tasks of an op. The op cuts its work by shape only, never by the number of threads, so
/// results have the same bits at any thread count.
///
/// An executor is anything with   parallel_for(tasks, f)   that calls f(0) … f(tasks − 1), each once, in any order, on
/// any thread, and returns when all are done. f does not throw. A host's pool is an adapter of five lines:
///
///   struct my_executor {
///       my_pool& pool;
///       template <class F> void parallel_for(std::int64_t tasks, F&& f) const {
///           pool.run(tasks, [&](std::int64_t task) { f(task); });
///       }
///   };
#include <algorithm>
#include <concepts>
#include <cstddef>
#include <cstdint>

#if defined(_OPENMP)
#include <omp.h>
#endif

namespace po2quant {

template <class E>
concept executor = requires(const E& e, std::int64_t tasks, void (*f)(std::int64_t)) {
    e.parallel_for(tasks, f);
};

/// Runs everything on the calling thread.
struct serial_executor {
    template <class F>
    void parallel_for(std::int64_t tasks, F&& f) const {
        for (std::int64_t task = 0; task < tasks; ++task) f(task);
    }
};
inline constexpr serial_executor serial{};

#if defined(_OPENMP)
/// Runs tasks on OpenMP's threads; `threads` 0 asks OpenMP for its own number. Inside a parallel region, or with one
/// task, it runs on the calling thread. Present only where the compiler has OpenMP switched on.
struct openmp_executor {
    int threads = 0;

    template <class F>
    void parallel_for(std::int64_t tasks, F&& f) const {
        const int count = threads > 0 ? threads : omp_get_max_threads();
        if (tasks <= 1 || count <= 1 || omp_in_parallel() != 0) {
            serial.parallel_for(tasks, f);
            return;
        }
#pragma omp parallel for schedule(dynamic, 1) num_threads(count)
        for (std::int64_t task = 0; task < tasks; ++task) f(task);
    }
};
inline constexpr openmp_executor openmp{};
#endif

namespace detail {

/// Elements of a task: 128 KB of floats, so that a task's work is far above the cost of handing it out, and its data
/// stays in L2 between two ops.
inline constexpr std::int64_t task_elements = 32768;

constexpr std::int64_t task_count(std::size_t elements) {
    return (static_cast<std::int64_t>(elements) + task_elements - 1) / task_elements;
}

/// Elements [begin, end) of task `task`.
struct element_range {
    std::size_t begin;
    std::size_t end;
    std::size_t size() const { return end - begin; }
};
constexpr element_range task_range(std::int64_t task, std::size_t elements) {
    const auto begin = static_cast<std::size_t>(task * task_elements);
    return {begin, std::min(elements, begin + static_cast<std::size_t>(task_elements))};
}

}  // namespace detail
}  // namespace po2quant
