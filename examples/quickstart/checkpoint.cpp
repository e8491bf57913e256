#include "checkpoint.hpp"

#include <algorithm>
#include <fstream>
#include <po2quant/training/scale_serialization.hpp>
#include <stdexcept>

namespace quickstart {
namespace {

void append(std::vector<std::byte>& all, std::span<const std::byte> more) {
    all.insert(all.end(), more.begin(), more.end());
}

void write(const std::filesystem::path& file, std::span<const std::byte> bytes) {
    std::ofstream out(file, std::ios::binary);
    out.write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
    if (!out.flush()) throw std::runtime_error("cannot write " + file.string());
}

}  // namespace

std::vector<std::byte> tracker_bytes(const quantized_graph& graph) {
    std::vector<std::byte> all;
    for (std::size_t layer = 0; layer < graph.net().layers.size(); ++layer)
        append(all, pq::serialize(graph.grids(layer).range));
    for (const pq::tqt_threshold& t : graph.thresholds()) append(all, pq::serialize(t));
    return all;
}

std::vector<std::byte> weight_bytes(network& net) {
    std::vector<std::byte> all;
    for (const parameter* p : net.parameters()) append(all, std::as_bytes(std::span(p->value)));
    return all;
}

void write_checkpoint(const std::filesystem::path& folder, std::span<const std::byte> trackers,
                      std::span<const std::byte> weights) {
    std::filesystem::create_directories(folder);
    write(folder / "trackers.bin", trackers);
    write(folder / "weights.bin", weights);
}

}  // namespace quickstart
