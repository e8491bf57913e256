#pragma once
/// The training of the quickstart in its three parts, by one process or by several.
#include "evaluate.hpp"
#include "train.hpp"

namespace quickstart {

struct recipe {
    double seconds = 130;    ///< for both trainings
    std::int64_t steps = 0;  ///< unless 0: that many in float32 and half of them of fine-tuning instead
    std::uint64_t seed = 1;
    std::int64_t curve_images = 2000;  ///< of the test set, for every point of the curves; 0: they show no accuracy
};

inline constexpr std::uint64_t calibration_steps = 20;

/// (a) Training in float32 with batch norm.
training_result train_float32(network& net, const dataset& data, const recipe& how, progress_line& progress,
                              const process_group& group = one_process);

/// (b) Batch norm is folded by now; ranges are watched until everything is put on its grid.
void calibrate(quantized_graph& graph, const labelled_images& images);

/// (c) Fine-tuning with fake quantization of `net`, which `graph` was made for. Ranges are frozen at its end.
training_result fine_tune(quantized_graph& graph, network& net, const dataset& data, const recipe& how,
                          progress_line& progress);

}  // namespace quickstart
