// What training leaves: an adapter in PEFT's or mlx-lm's form, or a model's directory.
#pragma once

#include <filesystem>
#include <string>

#include "training/methods.h"

namespace metal_candle {

/// `format`: "peft" or "mlx". Throws Error(unsupported | io_error).
void export_adapter(TrainableModel& model, const std::filesystem::path& directory, const std::string& format,
                    const std::string& base_model);

/// All weights as model.safetensors in `type` (f32, f16 or bf16), and what stands beside those of `from`:
/// configuration, tokenizer, chat template.
void export_model(TrainableModel& model, const std::filesystem::path& from,
                  const std::filesystem::path& directory, DType type);

}  // namespace metal_candle
