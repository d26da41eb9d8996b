#include "inference/rng.h"

#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <ios>
#include <set>
#include <sstream>
#include <string>

namespace metal_candle {
namespace {

TEST(Rng, GivesNumPysPcg64Sequence) {
  std::ifstream file(MC_GOLDEN_DIR "/sampling/pcg64.txt");
  int lines = 0;
  for (std::string line; std::getline(file, line); ++lines) {
    std::istringstream words(line);
    words >> std::hex;
    std::uint64_t w[12];
    for (std::uint64_t& word : w) ASSERT_TRUE(words >> word);
    Rng rng((Rng::U128{w[0]} << 64) | w[1], (Rng::U128{w[2]} << 64) | w[3]);
    for (int i = 4; i < 12; ++i) EXPECT_EQ(rng.next(), w[i]) << "line " << lines << ", output " << i - 4;
  }
  EXPECT_EQ(lines, 4);
}

TEST(Rng, SeedsGiveRepeatableAndDifferentSequences) {
  std::set<std::uint64_t> first;
  for (std::uint64_t seed = 0; seed < 1000; ++seed) {
    Rng a(seed), b(seed);
    EXPECT_EQ(a, b);
    const std::uint64_t x = a.next();
    EXPECT_EQ(x, b.next());
    first.insert(x);
  }
  EXPECT_EQ(first.size(), 1000u);
}

TEST(Rng, UniformStaysBelowOneWithTheRightMoments) {
  Rng rng(7);
  constexpr int kN = 100000;
  double sum = 0, squares = 0;
  for (int i = 0; i < kN; ++i) {
    const double u = rng.uniform();
    ASSERT_GE(u, 0);
    ASSERT_LT(u, 1);
    sum += u;
    squares += u * u;
  }
  // Five standard errors of the mean of U (sd 0.2887) and of U^2 (sd 0.2981).
  EXPECT_NEAR(sum / kN, 0.5, 5 * 0.2887 / std::sqrt(kN));
  EXPECT_NEAR(squares / kN, 1.0 / 3, 5 * 0.2981 / std::sqrt(kN));
}

}  // namespace
}  // namespace metal_candle
