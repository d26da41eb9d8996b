// The verbs similarity and rerank: how close two texts are, and which texts answer a query best.
#include <algorithm>
#include <memory>
#include <numeric>
#include <string>
#include <vector>

#include "cli/embedding_flags.h"
#include "cli/flags.h"
#include "cli/output.h"
#include "cli/verbs.h"

namespace metal_candle::cli {
namespace {

constexpr const char* kSimilarityFooter =
    R"(Prints the cosine of the two texts' vectors: 1 for the same meaning, around 0 for none in common.

Example:
  metal-candle similarity -m all-MiniLM-L6-v2 "A cat sits on a mat." "There is a cat on the rug.")";

constexpr const char* kRerankFooter =
    R"(Each input line is a text. Prints one line for each, best first: {"index":i,"score":s,"text":"..."}. A cross-encoder
reads query and text together; any other embedding model compares their vectors.

Example:
  metal-candle rerank -m ms-marco-MiniLM-L6-v2 --query "how do bees make honey?" --top 3 passages.txt)";

struct SimilarityFlags {
  EmbeddingFlags model;
  EmbedFlags embed;
  std::string a, b;
};

void run(const SimilarityFlags& flags) {
  const std::shared_ptr<EmbeddingModel> model = flags.model.load();
  const std::vector<std::string> texts{flags.a, flags.b};
  const Embeddings e = model->embed(std::span<const std::string>(texts), flags.embed.resolve());
  write_result(fixed(cosine_similarity(e.row(0), e.row(1)), 6) + "\n");
}

struct RerankFlags {
  EmbeddingFlags model;
  std::string query, input;
  std::size_t top = 0;
};

void run(const RerankFlags& flags) {
  std::vector<std::string> texts;
  for_each_line(flags.input, [&](std::string_view text, std::size_t) { texts.emplace_back(text); });
  if (texts.empty()) throw Error(ErrorCode::invalid_argument, "there is no line to rank");
  const std::shared_ptr<Reranker> ranker = Reranker::load(flags.model.model, flags.model.options());
  const std::vector<float> scores = ranker->score(flags.query, texts);
  std::vector<std::size_t> order(texts.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::ranges::stable_sort(order, [&](std::size_t a, std::size_t b) { return scores[a] > scores[b]; });
  if (flags.top > 0 && flags.top < order.size()) order.resize(flags.top);
  for (const std::size_t i : order)
    write_json_line({{"index", i}, {"score", number(scores[i])}, {"text", texts[i]}});
}

}  // namespace

void add_similarity(CLI::App& program) {
  const auto flags = std::make_shared<SimilarityFlags>();
  CLI::App* app = program.add_subcommand("similarity", "How close the meanings of two texts are");
  app->footer(kSimilarityFooter);
  app->add_option("A", flags->a, "One text")->required()->type_name("");
  app->add_option("B", flags->b, "The other")->required()->type_name("");
  flags->embed.add_to(*app);
  flags->model.add_to(*app);
  app->callback([flags] { run(*flags); });
}

void add_rerank(CLI::App& program) {
  const auto flags = std::make_shared<RerankFlags>();
  CLI::App* app = program.add_subcommand("rerank", "Order lines of text by how well they answer a query");
  app->footer(kRerankFooter);
  app->add_option("FILE", flags->input, "Input (default: standard input)")->type_name("");
  app->add_option("-q,--query", flags->query, "What the texts should answer")->required()->type_name("TEXT");
  app->add_option("--top", flags->top, "Print only the best N")->check(count_from(1))->type_name("N");
  flags->model.add_to(*app);
  app->callback([flags] { run(*flags); });
}

}  // namespace metal_candle::cli
