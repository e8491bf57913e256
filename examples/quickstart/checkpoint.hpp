#pragma once
/// What training has learned, as bytes.
#include <filesystem>

#include "quantized_graph.hpp"

namespace quickstart {

/// The range trackers of all layers, and the thresholds that were trained, serialized, one behind the other.
std::vector<std::byte> tracker_bytes(const quantized_graph& graph);
/// Weights and biases of all layers, each float as the machine holds it.
std::vector<std::byte> weight_bytes(network& net);

/// Writes trackers.bin and weights.bin to `folder`, which is made if it is not there.
void write_checkpoint(const std::filesystem::path& folder, std::span<const std::byte> trackers,
                      std::span<const std::byte> weights);

}  // namespace quickstart
