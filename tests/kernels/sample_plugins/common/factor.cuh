// What the sample op multiplies with.
#pragma once

namespace sample {
constexpr float kFactor = 2.f;
}  // namespace sample
