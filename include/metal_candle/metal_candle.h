// The whole public API in one include. No MLX, Highway or JSON type appears in it.
#pragma once

#include "metal_candle/error.h"
#include "metal_candle/generate.h"
#include "metal_candle/model.h"
#include "metal_candle/sampling.h"
#include "metal_candle/version.h"
