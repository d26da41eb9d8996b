// The whole public API in one include. No MLX, Highway or JSON type appears in it.
#pragma once

#if __has_include("metal_candle/async.h")  // not in builds without METAL_CANDLE_ASYNC
#include "metal_candle/async.h"
#endif
#include "metal_candle/adapter.h"
#include "metal_candle/embed.h"
#include "metal_candle/error.h"
#include "metal_candle/generate.h"
#include "metal_candle/model.h"
#include "metal_candle/sampling.h"
#include "metal_candle/tokenizer.h"
#include "metal_candle/train.h"
#include "metal_candle/version.h"
