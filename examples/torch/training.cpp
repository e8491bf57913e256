#include "training.hpp"

#include <ATen/CPUGeneratorImpl.h>
#include <torch/nn/functional.h>
#include <torch/optim.h>

#include <cmath>
#include <numbers>
#include <numeric>
#include <vector>

namespace po2quant_torch {
namespace {

// Shares of the steps: in which the rate rises; from which norms, and ranges and thresholds, are frozen.
constexpr double float_rises = 0.1;
constexpr double tuning_rises = 0.02;
constexpr double norms_rest = 0.25;
constexpr double ranges_rest = 0.8;

/// The share of a rate: up in a line for the share `rises` of the steps, then down by a cosine.
double cycle(std::int64_t step, std::int64_t steps, double rises) {
    const double top = rises * static_cast<double>(steps);
    const auto now = static_cast<double>(step);
    if (now < top) return (now + 1) / top;
    return 0.5 + 0.5 * std::cos(std::numbers::pi * (now - top) / (static_cast<double>(steps) - top));
}

/// Optimizers of weights, and, as TQT published it, of thresholds if there are any.
class Optimizers {
public:
    Optimizers(torch::nn::Module& network, double rate, std::int64_t steps, double rises, std::int64_t batch)
        : weights_(parameters(network, false),
                   torch::optim::SGDOptions(rate).momentum(0.9).weight_decay(5e-4).nesterov(true)),
          rate_(rate),
          steps_(steps),
          rises_(rises),
          halves_after_(static_cast<std::int64_t>(std::nearbyint(1000.0 * 24 / static_cast<double>(batch)))) {
        if (auto thresholds = parameters(network, true); !thresholds.empty())
            thresholds_.emplace(std::move(thresholds), torch::optim::AdamOptions(threshold_rate));
    }

    void step() {
        set_rate<torch::optim::SGDOptions>(weights_, rate_ * cycle(done_, steps_, rises_));
        weights_.step();
        if (thresholds_) {
            set_rate<torch::optim::AdamOptions>(*thresholds_,
                                                std::ldexp(threshold_rate, -static_cast<int>(done_ / halves_after_)));
            thresholds_->step();
        }
        ++done_;
    }

private:
    static constexpr double threshold_rate = 1e-2;

    static std::vector<Tensor> parameters(torch::nn::Module& network, bool thresholds) {
        std::vector<Tensor> chosen;
        for (const auto& named : network.named_parameters())
            if (named.key().ends_with("log2_t") == thresholds) chosen.push_back(named.value());
        return chosen;
    }

    template <class Options>
    static void set_rate(torch::optim::Optimizer& optimizer, double rate) {
        for (auto& group : optimizer.param_groups()) static_cast<Options&>(group.options()).lr(rate);
    }

    torch::optim::SGD weights_;
    std::optional<torch::optim::Adam> thresholds_;
    double rate_;
    std::int64_t steps_;
    double rises_;
    std::int64_t halves_after_;
    std::int64_t done_ = 0;
};

}  // namespace

Tensor as_input(const Tensor& images) {
    return ((images.to(at::kFloat) - 128) / 128).contiguous(at::MemoryFormat::ChannelsLast);
}

Batches::Batches(Pictures of, std::int64_t size, std::uint64_t seed)
    : pictures_(std::move(of)), size_(size), source_(at::detail::createCPUGenerator(seed)) {
    const std::int64_t count = pictures_.labels.size(0);
    TORCH_CHECK(0 < size && size <= count, "Batches: size is ", size, ", not 1..", count, ", the number of pictures");
}

std::pair<Tensor, Tensor> Batches::next() {
    if (!order_.defined() || at_ == order_.size(0)) {
        const std::int64_t count = pictures_.labels.size(0);
        order_ = torch::randperm(count, source_, at::kLong).slice(0, 0, count / size_ * size_);
        at_ = 0;
    }
    const Tensor chosen = order_.slice(0, at_, at_ + size_);
    at_ += size_;
    const Tensor images = pictures_.images.index_select(0, chosen);
    const Tensor mirrored = torch::rand({size_}, source_) < 0.5;
    return {as_input(torch::where(mirrored.view({-1, 1, 1, 1}), images.flip(3), images)),
            pictures_.labels.index_select(0, chosen)};
}

void to_channels_last(torch::nn::Module& network) {
    for (Tensor& parameter : network.parameters())
        if (parameter.dim() == 4)
            parameter.set_data(parameter.detach().to(at::kFloat, false, false, at::MemoryFormat::ChannelsLast));
}

void calibrate(MobileNetV1 network, Batches& batches, std::int64_t steps) {
    const torch::NoGradGuard without_gradients;
    network->train();
    freeze_norms(*network);
    for (std::int64_t step = 0; step < steps; ++step) network(batches.next().first);
    freeze_norms(*network, false);
}

double train(MobileNetV1 network, Batches& batches, std::int64_t steps, double rate, bool tuning) {
    Optimizers optimizers(*network, rate, steps, tuning ? tuning_rises : float_rises, batches.size());
    std::vector<double> losses;
    network->train();
    for (std::int64_t step = 0; step < steps; ++step) {
        const double done = static_cast<double>(step);
        if (tuning && done >= norms_rest * static_cast<double>(steps)) freeze_norms(*network);
        if (tuning && done >= ranges_rest * static_cast<double>(steps)) freeze_ranges(*network);
        const auto [images, labels] = batches.next();
        for (Tensor& parameter : network->parameters()) parameter.mutable_grad().reset();
        const Tensor loss = torch::nn::functional::cross_entropy(network(images), labels);
        loss.backward();
        optimizers.step();
        losses.push_back(loss.item<double>());
    }
    const auto last = losses.begin() + static_cast<std::ptrdiff_t>(0.9 * static_cast<double>(steps));
    return std::accumulate(last, losses.end(), 0.0) / static_cast<double>(losses.end() - last);
}

std::int64_t right(MobileNetV1 network, const Pictures& pictures) {
    const torch::NoGradGuard without_gradients;
    network->eval();
    std::int64_t sum = 0;
    for (std::int64_t i = 0; i < pictures.labels.size(0); i += 500) {
        const Tensor answers = network(as_input(pictures.images.slice(0, i, i + 500))).argmax(1);
        sum += answers.eq(pictures.labels.slice(0, i, i + 500)).sum().item<std::int64_t>();
    }
    return sum;
}

c10::Dict<std::string, Tensor> state_dict(const torch::nn::Module& network) {
    c10::Dict<std::string, Tensor> state;
    for (const auto& named : network.named_parameters()) state.insert(named.key(), named.value().detach());
    for (const auto& named : network.named_buffers()) state.insert(named.key(), named.value());
    return state;
}

void load_state_dict(torch::nn::Module& network, const c10::Dict<std::string, Tensor>& state) {
    const torch::NoGradGuard without_gradients;
    for (const auto& named : state_dict(network))
        if (const auto found = state.find(named.key()); found != state.end()) named.value().copy_(found->value());
}

}  // namespace po2quant_torch
