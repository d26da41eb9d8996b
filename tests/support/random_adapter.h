// Random LoRA adapters of all seven projections, written as PEFT directories.
#pragma once

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <map>
#include <random>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "io/safetensors_writer.h"

namespace metal_candle::test {

/// The sizes of a decoder that its adapters share.
struct AdapterShape {
  std::size_t layers = 2, hidden = 64, heads = 4, kv_heads = 2, head_dim = 16, ffn = 96, rank = 3;
};

/// One adapter: what was written to `directory`, for references. F32, scale 2.
struct RandomAdapter {
  AdapterShape shape;
  static constexpr float kScale = 2;
  std::map<std::string, std::pair<std::vector<float>, std::vector<float>>>
      matrices;  ///< A [r, in], B [out, r]

  RandomAdapter(const std::filesystem::path& directory, const AdapterShape& of, std::uint32_t seed = 11,
                float deviation = 0.1f)
      : shape(of) {
    const std::size_t q = of.heads * of.head_dim, kv = of.kv_heads * of.head_dim;
    const std::pair<const char*, std::pair<std::size_t, std::size_t>> modules[] = {
        {"self_attn.q_proj", {q, of.hidden}},   {"self_attn.k_proj", {kv, of.hidden}},
        {"self_attn.v_proj", {kv, of.hidden}},  {"self_attn.o_proj", {of.hidden, q}},
        {"mlp.gate_proj", {of.ffn, of.hidden}}, {"mlp.up_proj", {of.ffn, of.hidden}},
        {"mlp.down_proj", {of.hidden, of.ffn}}};
    std::mt19937 random(seed);
    std::normal_distribution<float> normal(0, deviation);
    std::vector<StoredTensor> tensors;
    for (std::size_t layer = 0; layer < of.layers; ++layer)
      for (const auto& [name, size] : modules) {
        const auto [out, in] = size;
        const std::string module = "model.layers." + std::to_string(layer) + "." + name;
        auto& [a, b] = matrices[module];
        a.resize(of.rank * in);
        b.resize(out * of.rank);
        for (float& x : a) x = normal(random);
        for (float& x : b) x = normal(random);
        const std::string key = "base_model.model." + module;
        tensors.push_back({key + ".lora_A.weight", DType::f32, {of.rank, in}, std::as_bytes(std::span(a))});
        tensors.push_back({key + ".lora_B.weight", DType::f32, {out, of.rank}, std::as_bytes(std::span(b))});
      }
    std::filesystem::create_directories(directory);
    write_safetensors(directory / "adapter_model.safetensors", tensors);
    std::ofstream(directory / "adapter_config.json")
        << R"({"peft_type": "LORA", "r": )" << of.rank << R"(, "lora_alpha": )" << 2 * of.rank
        << R"(, "target_modules": "all-linear"})";
  }
};

}  // namespace metal_candle::test
