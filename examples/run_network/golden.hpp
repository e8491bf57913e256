#pragma once
/// The folder goldens/ of a network: what every op must give for some images, as SHA-256 of all and as arrays of the
/// first ones.
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "network.hpp"

namespace run_network {

/// Values that were compared and that differ. An op of which only the digest is known differs in all of its values or
/// in none.
struct comparison {
    std::int64_t compared = 0;
    std::int64_t differing = 0;
};

class goldens {
public:
    /// For images of int8 codes, or of int16 codes of an exponent that this sets. Throws bad_model.
    goldens(const model& m, int input_bits);
    ~goldens();

    int input_exponent() const;
    std::size_t images() const;
    const std::string& name_of(std::size_t image) const;
    int label_of(std::size_t image) const;  ///< -1 where none is given
    /// Codes of an image, as many bytes as the network's input.
    std::span<const std::byte> input(std::size_t image) const;

    /// An op's result for an image. Where there is no golden of it, nothing is compared.
    comparison compare(const layer& l, const tensor& result, pool_form form, std::size_t image) const;

private:
    struct contents;
    std::unique_ptr<contents> contents_;
};

}  // namespace run_network
