#include "cli/embedding_flags.h"

#include "cli/flags.h"

namespace metal_candle::cli {

void EmbeddingFlags::add_to(CLI::App& app, bool required) {
  app.add_option("-m,--model", model, "Embedding model: a directory, or a .safetensors or .gguf file")
      ->required(required)
      ->type_name("PATH")
      ->group("Model");
  add_threads(app, threads);
  app.add_option("--dtype", dtype, "How products are computed (default: bf16)")
      ->check(CLI::IsMember({"f32", "bf16", "int8"}).description(""))
      ->type_name("f32|bf16|int8")
      ->group("Model");
  app.add_option("--max-length", max_length, "Tokens a text is cut to (default: the model's own)")
      ->check(count_from(1))
      ->type_name("N")
      ->group("Model");
}

EmbeddingLoadOptions EmbeddingFlags::options() const {
  EmbeddingLoadOptions out;
  out.threads = threads;
  out.dtype = dtype == "f32"    ? EmbeddingDType::f32
              : dtype == "int8" ? EmbeddingDType::int8
                                : EmbeddingDType::bf16;
  if (max_length > 0) out.max_length = max_length;
  return out;
}

void EmbedFlags::add_to(CLI::App& app) {
  const char* group = "Embedding";
  app.add_option("--prompt-name", options.prompt_name, "Put one of the model's own prompts before every text")
      ->type_name("NAME")
      ->group(group);
  prompt_option =
      app.add_option("--prompt", prompt, "Put this before every text")->type_name("TEXT")->group(group);
  app.add_option("--dimensions", options.dimensions,
                 "Keep only the first N, normalised anew (Matryoshka models)")
      ->check(count_from(1))
      ->type_name("N")
      ->group(group);
  app.add_flag("--normalize", options.normalize, "Unit length even where the model does not ask for it")
      ->group(group);
  app.add_option("--truncate", truncate, "Which end of an over-long text is dropped (default: right)")
      ->check(CLI::IsMember({"right", "left"}).description(""))
      ->type_name("right|left")
      ->group(group);
  adapters.add_to(app);
}

EmbedOptions EmbedFlags::resolve() const {
  EmbedOptions out = options;
  if (prompt_option->count() > 0) out.prompt = prompt;
  if (!adapters.texts.empty()) out.adapters = adapters.load();
  out.truncation = truncate == "left" ? Truncation::left : Truncation::right;
  return out;
}

}  // namespace metal_candle::cli
