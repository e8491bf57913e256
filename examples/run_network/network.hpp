#pragma once
/// A network ready to run: layers with packed weights, and one block of memory for all tensors, which reuse it where
/// their times do not overlap. After construction nothing is allocated.
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include <po2quant/po2quant.hpp>

#include "model.hpp"

namespace run_network {

/// How many threads run an op.
struct executor {
    int threads = 1;

    template <class F>
    void parallel_for(std::int64_t tasks, F&& f) const {
#if defined(_OPENMP)
        if (threads > 1) return po2quant::openmp_executor{threads}.parallel_for(tasks, f);
#endif
        po2quant::serial.parallel_for(tasks, f);
    }
};

/// What an average pool in front of a convolution leaves: its graph does not round it.
enum class pool_form {
    exact,  ///< the sum of the codes: nothing is lost
    int16,  ///< the mean with 8 more bits of fraction
    int8,   ///< the mean as a code of the input's exponent
};

enum class element { int8, int16, int32, float32 };

/// A tensor of one image: real value = code * 2^exponent / divisor, floats are real values themselves.
struct tensor {
    element type = element::int8;
    std::vector<std::int64_t> shape = {};
    int exponent = 0;
    std::int64_t divisor = 1;
    bool never_negative = false;
    std::int64_t largest = 0;  ///< code, of int16 that are never negative
    bool pooled = false;       ///< int16 sums or means of an average pool
    const std::byte* data = nullptr;

    std::int64_t elements() const {
        std::int64_t n = 1;
        for (const std::int64_t length : shape) n *= length;
        return n;
    }
    std::size_t element_bytes() const { return type == element::int8 ? 1 : type == element::int16 ? 2 : 4; }
    std::span<const std::byte> bytes() const { return {data, static_cast<std::size_t>(elements()) * element_bytes()}; }
    template <class T>
    std::span<const T> as() const {
        return {reinterpret_cast<const T*>(data), static_cast<std::size_t>(elements())};
    }
    double real(std::size_t i) const;
};

/// What is known of an op before it runs.
struct layer {
    std::string name;
    op_kind kind;
    int value;  ///< its result
    std::int64_t multiply_accumulates = 0;
    int input_exponent = 0;
    std::vector<int> weight_exponents = {};  ///< none where there are no weights
    po2quant::certificate proof = {};  ///< no channels where there is none
    const char* form = "";             ///< of an average pool: "exact", "int16", "int8"
};

class network {
public:
    /// Throws bad_model for shapes that do not fit, plans that the file contradicts, and what the kernels refuse.
    network(const model& m, const po2quant::layer_kernels& kernels, pool_form form = pool_form::exact);
    network(network&&) = default;

    const std::vector<layer>& layers() const { return layers_; }
    const tensor& value(int index) const { return values_[static_cast<std::size_t>(index)]; }

    /// Where the image goes before every run, as many bytes as value(0) has: int8 or int16 codes of the input's
    /// exponent. Once it has been read, its memory is others'.
    std::span<std::byte> input() { return {memory_.get() + offsets_[0], value(0).bytes().size()}; }

    /// Runs the ops in their order; calls after(i) behind op i, while its result is still there. Results that are
    /// outputs of the model stay until the next run.
    template <class After>
    void run(const executor& e, After after) const {
        for (std::size_t i = 0; i < steps_.size(); ++i) {
            if (steps_[i]) steps_[i](e);
            after(i);
        }
    }
    void run(const executor& e) const {
        run(e, [](std::size_t) {});
    }

    std::size_t memory_bytes() const { return bytes_; }

private:
    friend class builder;
    struct free_memory {
        void operator()(std::byte* p) const { std::free(p); }
    };

    network() = default;

    std::vector<layer> layers_;
    std::vector<std::function<void(const executor&)>> steps_;
    std::vector<tensor> values_;
    std::vector<std::size_t> offsets_;  ///< of values in memory
    std::unique_ptr<std::byte[], free_memory> memory_;
    std::size_t bytes_ = 0;
};

}  // namespace run_network
