// The table of the program's verbs. A verb is one file that defines add_<verb>() and one line here.
#pragma once

#include <CLI/CLI.hpp>

namespace metal_candle::cli {

/// Adds a subcommand whose callback does the work. The callback throws Error; main() turns it into an exit
/// code.
using AddVerb = void (*)(CLI::App& program);

void add_generate(CLI::App& program);
void add_tokenize(CLI::App& program);
void add_score(CLI::App& program);
void add_bench(CLI::App& program);
void add_inspect(CLI::App& program);
void add_chat(CLI::App& program);
void add_embed(CLI::App& program);
void add_similarity(CLI::App& program);
void add_rerank(CLI::App& program);
void add_index(CLI::App& program);
void add_adapter(CLI::App& program);
void add_train(CLI::App& program);
void add_completion(CLI::App& program);

inline constexpr AddVerb kVerbs[] = {add_generate, add_chat,  add_tokenize,   add_score,  add_bench,
                                     add_inspect,  add_embed, add_similarity, add_rerank, add_index,
                                     add_adapter,  add_train, add_completion};

}  // namespace metal_candle::cli
