#pragma once
/// A host's own threads. `executor` is all that it takes to let the library's kernels run on them.
///
/// (pq::openmp would do as well. Its threads spin while they wait, which is fast on an idle machine and slow on one
/// that another program shares; these sleep.)
#include <atomic>
#include <cstdint>
#include <thread>
#include <vector>

namespace quickstart {

class thread_pool {
public:
    explicit thread_pool(unsigned threads) {
        for (unsigned i = 1; i < threads; ++i) workers_.emplace_back([this] { serve(); });
    }
    ~thread_pool() {
        stop_ = true;
        announce();
        for (std::thread& worker : workers_) worker.join();
    }
    thread_pool(const thread_pool&) = delete;
    thread_pool& operator=(const thread_pool&) = delete;

    std::size_t threads() const { return workers_.size() + 1; }

    /// Calls f(0) … f(tasks − 1) on all threads; from inside a task on the calling thread alone.
    template <class F>
    void run(std::int64_t tasks, F&& f) {
        if (tasks <= 1 || workers_.empty() || inside_) {
            for (std::int64_t task = 0; task < tasks; ++task) f(task);
            return;
        }
        call_ = [](void* context, std::int64_t task) { (*static_cast<std::remove_reference_t<F>*>(context))(task); };
        context_ = const_cast<void*>(static_cast<const void*>(&f));
        tasks_ = tasks;
        next_ = 0;
        busy_ = static_cast<int>(workers_.size());
        announce();
        work();
        for (int busy = busy_; busy != 0; busy = busy_) busy_.wait(busy);
    }

private:
    void announce() {
        ++round_;
        round_.notify_all();
    }
    void serve() {
        for (std::uint32_t seen = 0;; ++seen) {
            round_.wait(seen);
            if (stop_) return;
            work();
            if (--busy_ == 0) busy_.notify_one();
        }
    }
    void work() {
        inside_ = true;
        for (std::int64_t task = next_++; task < tasks_; task = next_++) call_(context_, task);
        inside_ = false;
    }

    std::vector<std::thread> workers_;
    void (*call_)(void*, std::int64_t) = nullptr;
    void* context_ = nullptr;
    std::int64_t tasks_ = 0;
    std::atomic<std::int64_t> next_{0};
    std::atomic<int> busy_{0};
    std::atomic<std::uint32_t> round_{0};
    std::atomic<bool> stop_{false};
    static inline thread_local bool inside_ = false;
};

/// The threads of this process; the first call says how many.
inline thread_pool& pool(unsigned threads = std::thread::hardware_concurrency()) {
    static thread_pool all(threads);
    return all;
}

/// The adapter: what po2quant asks of an executor.
struct pool_executor {
    template <class F>
    void parallel_for(std::int64_t tasks, F&& f) const {
        pool().run(tasks, f);
    }
};
inline constexpr pool_executor threads{};

}  // namespace quickstart
