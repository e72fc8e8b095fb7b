// Where the E4M3 block scales of an NVFP4 matrix lie.
//
// Linear: row-major [rows, columns] with columns = width / 16.
// Swizzled, as the block-scaled matrix instructions of Blackwell read them: tiles of 128 rows x 4 columns,
// 512 bytes each, tiles row-major, rows and columns padded to whole tiles with zeros. Inside a tile, 32 units
// of 16 bytes; unit u holds the four columns of rows u, u + 32, u + 64 and u + 96, one word each.
#pragma once
#include <cuda_runtime.h>
#include <stdint.h>

#include "common/mode.h"

namespace bwdeploy {

constexpr int kTileRows = 128, kTileColumns = 4, kTileBytes = kTileRows * kTileColumns, kUnitsPerTile = 32;

__host__ __device__ constexpr int tiles_across(int columns) { return (columns + kTileColumns - 1) >> 2; }

template <Mode MODE>
__device__ __forceinline__ int64_t scale_offset(int row, int column, int columns) {
  static_assert(kIsNvfp4<MODE>, "only NVFP4 has block scales");
  if constexpr (MODE == Mode::kNvfp4Linear) {
    return static_cast<int64_t>(row) * columns + column;
  } else {
    const int64_t tile = static_cast<int64_t>(row >> 7) * tiles_across(columns) + (column >> 2);
    return tile * kTileBytes + (row & 31) * 16 + ((row >> 5) & 3) * 4 + (column & 3);
  }
}

// Clear the scales of the rows between `rows` and the next multiple of 128. Every thread of `workers` calls,
// `worker` being its number; the tiles of the last 128 rows are contiguous.
__device__ __forceinline__ void clear_padding_rows(void* scales, int rows, int columns, int worker,
                                                   int workers) {
  const int real = rows % kTileRows, units = tiles_across(columns) * kUnitsPerTile;
  if (real == 0) return;
  uint8_t* last = static_cast<uint8_t*>(scales) +
                  static_cast<int64_t>(rows / kTileRows) * tiles_across(columns) * kTileBytes;
  for (int unit = worker; unit < units; unit += workers) {
    uint32_t* words = reinterpret_cast<uint32_t*>(last + unit * 16);
    const int row = unit % kUnitsPerTile;
#pragma unroll
    for (int i = 0; i < 4; ++i)
      if (row + 32 * i >= real) words[i] = 0;
  }
}

// Clear the scales of `row` in the columns between `columns` and the next multiple of 4; the first threads
// call.
__device__ __forceinline__ void clear_padding_columns(void* scales, int row, int columns, int thread) {
  const int missing = -columns & (kTileColumns - 1);
  if (thread < missing)
    static_cast<uint8_t*>(scales)[scale_offset<Mode::kNvfp4Swizzled>(row, columns + thread, columns)] = 0;
}

}  // namespace bwdeploy
