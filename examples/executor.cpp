// A host's thread pool as executor: parallel_for calls f(0) … f(tasks − 1), on any thread, in any order.
#include <cstdio>
#include <thread>
#include <vector>

#include <po2quant/po2quant.hpp>

struct two_threads {
    template <class F>
    void parallel_for(std::int64_t tasks, F&& f) const {
        std::thread odd([&] { for (std::int64_t task = 1; task < tasks; task += 2) f(task); });
        for (std::int64_t task = 0; task < tasks; task += 2) f(task);
        odd.join();
    }
};

int main() {
    std::vector<float> x(1 << 20, 0.3F);
    po2quant::fake_quantize(x, x, {.exponent = -4}, two_threads{});
    std::printf("0.3 on the grid of 2^-4 is %g\n", x[0]);
}
