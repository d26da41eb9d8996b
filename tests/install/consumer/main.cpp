// Uses the installed library as a program of its own would: loads the model, streams a few tokens, meets an
// error.
#include <metal_candle/metal_candle.h>

#include <iostream>

int main(int argc, char** argv) {
  namespace mc = metal_candle;
  if (argc != 2) return 2;
  mc::Generator generator(mc::Model::load(argv[1]));
  mc::GenerateOptions options;
  options.max_tokens = 8;
  std::string text;
  for (const mc::StreamToken& token : generator.generate_stream("The capital of France is", options)) {
    text += token.text;
  }
  std::cout << "metal_candle " << mc::kVersion << ":" << text << "\n";
  if (text.find("Paris") == std::string::npos) return 1;
  try {
    mc::Model::load("/nonexistent.gguf");
  } catch (const mc::Error& error) {
    return error.code() == mc::ErrorCode::not_found ? 0 : 1;
  }
  return 1;
}
