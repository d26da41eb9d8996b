// Semantic search in a few lines: embeds sentences, then finds those nearest to a question.
//   embed_demo MODEL "QUESTION"
#include <algorithm>
#include <cstdio>
#include <exception>
#include <string>
#include <vector>

#include "metal_candle/embed.h"

int main(int argc, char** argv) {
  namespace mc = metal_candle;
  if (argc != 3) {
    std::fprintf(stderr, "usage: embed_demo MODEL \"QUESTION\"\n");
    return 2;
  }
  const std::vector<std::string> sentences{"Bees make honey from the nectar of flowers.",
                                           "The bank lends money to firms.",
                                           "A river rises in the mountains.", "Cats sleep most of the day.",
                                           "The stock market fell sharply on Monday."};
  try {
    const auto model = mc::EmbeddingModel::load(argv[1]);
    const mc::Embeddings vectors = model->embed(std::span<const std::string>(sentences));
    const std::vector<float> question = model->embed(std::string_view(argv[2]));
    std::vector<std::pair<float, std::string>> ranked;
    for (std::size_t i = 0; i < sentences.size(); ++i)
      ranked.emplace_back(mc::cosine_similarity(question, vectors.row(i)), sentences[i]);
    std::sort(ranked.rbegin(), ranked.rend());
    for (const auto& [score, sentence] : ranked)
      std::printf("%.3f  %s\n", static_cast<double>(score), sentence.c_str());
  } catch (const std::exception& error) {
    std::fprintf(stderr, "embed_demo: %s\n", error.what());
    return 1;
  }
}
