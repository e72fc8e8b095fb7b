// torch.ops.bwdeploy.allreduce_add_rmsnorm_quant_{fp8,nvfp4} and the set-up of peer groups: checks, outputs,
// launch.
#include <optional>
#include <tuple>

#include "allreduce_add_rmsnorm_quant/params.h"
#include "allreduce_add_rmsnorm_quant/peer_groups.h"
#include "common/add_rmsnorm_binding.h"

namespace {

using namespace bwdeploy;

using Entry = int(const AllreduceNormParams*, const AllreduceConfig*, cudaStream_t);
using Calls = int(unsigned long long*);

}  // namespace

// The entry points of a unit: one activation type and one number of ranks.
#define BW_FOR_EACH_UNIT(DO) DO(bf16, 2) DO(bf16, 4) DO(bf16, 8) DO(fp16, 2) DO(fp16, 4) DO(fp16, 8)
#define BW_NAMED(name, world, what) bwdeploy_allreduce_add_rmsnorm_quant_##name##_##world##_##what
#define BW_DECLARE(name, world)                                                                         \
  Entry BW_NAMED(name, world, fp8), BW_NAMED(name, world, fp8_per_token), BW_NAMED(name, world, nvfp4), \
      BW_NAMED(name, world, nvfp4_swizzled);                                                            \
  Calls BW_NAMED(name, world, calls);
#define BW_ENTRIES(name, world)                                                                    \
  {BW_NAMED(name, world, fp8), BW_NAMED(name, world, fp8_per_token), BW_NAMED(name, world, nvfp4), \
   BW_NAMED(name, world, nvfp4_swizzled)},
#define BW_CALLS(name, world) BW_NAMED(name, world, calls),

extern "C" {
BW_FOR_EACH_UNIT(BW_DECLARE)
}

namespace {

constexpr const char* kOp = "allreduce_add_rmsnorm_quant";

Entry* entry_for(bool bf16, int world, Mode mode) {
  static Entry* const entries[6][4] = {BW_FOR_EACH_UNIT(BW_ENTRIES)};  // by mode as Mode counts them
  const int by_world = world == 2 ? 0 : world == 4 ? 1 : 2;
  return entries[(bf16 ? 0 : 3) + by_world][static_cast<int>(mode)];
}

struct Outputs {
  Tensor codes, scales, residual_out, normed;
};

void launch(Mode mode, const NormInputs& in, const NormSizes& sizes, int64_t peers, const Outputs& out,
            const float* given) {
  const PeerGroup group = PeerGroups::of_process().connected(peers, sizes.device);
  const int64_t widest = int64_t{group.memory.layout.row_packs} * 8;
  require(sizes.hidden <= widest, "x", std::to_string(sizes.hidden) + " columns",
          std::to_string(widest) + " at most, as the peer group was opened with");
  if (sizes.rows == 0) return;
  const QuantizedRows quantized = {out.codes.data_ptr(), out.scales.data_ptr(), given,
                                   static_cast<int>(sizes.hidden)};
  const AllreduceNormParams params = {norm_params(in, sizes, out.residual_out, out.normed, quantized),
                                      group.memory, 0};
  const DeviceGuard guard(sizes.device);
  Entry* const entry = entry_for(sizes.bf16, group.memory.layout.world, mode);
  require_launched(kOp,
                   entry(&params, group.config ? &*group.config : nullptr, current_stream(sizes.device)));
}

Tensor normed_for(const Tensor& x, const NormSizes& sizes, bool wanted) {
  return new_tensor(x, {wanted ? sizes.rows : 0, sizes.hidden}, x.scalar_type());
}

std::tuple<Tensor, Tensor, Tensor, Tensor> allreduce_add_rmsnorm_quant_fp8(
    Tensor x, Tensor residual, Tensor weight, std::optional<Tensor> scale, double eps, int64_t peers,
    bool eager_rounding, bool return_normed, bool pdl) {
  const NormInputs in = {x, residual, weight, eps, eager_rounding, pdl};
  const NormSizes sizes = require_norm_inputs(in, 8);
  const bool per_token = !scale.has_value();
  const float* given = per_token ? nullptr : require_scale(*scale, "scale", sizes.device);
  const Outputs out = {
      new_tensor(x, {sizes.rows, sizes.hidden}, ScalarType::Float8_e4m3fn),
      new_tensor(x, {per_token ? sizes.rows : 0}, ScalarType::Float),
      new_tensor(x, {sizes.rows, sizes.hidden}, x.scalar_type()),
      normed_for(x, sizes, return_normed),
  };
  launch(per_token ? Mode::kFp8PerToken : Mode::kFp8Static, in, sizes, peers, out, given);
  return {out.codes, out.residual_out, out.scales, out.normed};
}

std::tuple<Tensor, Tensor, Tensor, Tensor> allreduce_add_rmsnorm_quant_nvfp4(
    Tensor x, Tensor residual, Tensor weight, Tensor global_scale, double eps, int64_t peers, bool swizzled,
    bool eager_rounding, bool return_normed, bool pdl) {
  const NormInputs in = {x, residual, weight, eps, eager_rounding, pdl};
  const NormSizes sizes = require_norm_inputs(in, 16);
  const float* given = require_scale(global_scale, "global_scale", sizes.device);
  const Outputs out = {
      new_tensor(x, {sizes.rows, sizes.hidden / 2}, ScalarType::Byte),
      new_block_scales(x, sizes.rows, sizes.hidden, swizzled),
      new_tensor(x, {sizes.rows, sizes.hidden}, x.scalar_type()),
      normed_for(x, sizes, return_normed),
  };
  launch(swizzled ? Mode::kNvfp4Swizzled : Mode::kNvfp4Linear, in, sizes, peers, out, given);
  return {out.codes, out.scales, out.residual_out, out.normed};
}

int64_t allreduce_add_rmsnorm_quant_calls(int64_t device) {
  return counted_calls(kOp, device, {BW_FOR_EACH_UNIT(BW_CALLS)});
}

// ---- Set-up of peer groups (peers.py calls these, step by step on all ranks) ----

char* bytes_of(const Tensor& tensor, const char* name, int64_t count) {
  require(!tensor.is_cuda(), name, "a CUDA tensor", "one on the CPU");
  require_dtype(tensor, name, ScalarType::Byte);
  require(tensor.numel() == count && tensor.is_contiguous(), name, "shape " + shape_text(tensor),
          std::to_string(count) + " contiguous bytes");
  return static_cast<char*>(tensor.data_ptr());
}

int64_t allreduce_peers_allocate(int64_t device, int64_t rank, int64_t world_size, int64_t rows,
                                 int64_t hidden, Tensor address) {
  require(world_size == 2 || world_size == 4 || world_size == 8, "world_size", world_size, "2, 4 or 8");
  require(rank >= 0 && rank < world_size, "rank", rank, "0 to " + std::to_string(world_size - 1));
  require(rows >= kRowsMultiple && rows % kRowsMultiple == 0 && rows <= kMaxPeerRows, "rows", rows,
          "a multiple of " + std::to_string(kRowsMultiple) + ", at most " + std::to_string(kMaxPeerRows));
  require(hidden >= 8 && hidden % 8 == 0 && hidden <= kMaxRowWidth, "hidden", hidden,
          "a multiple of 8 from 8 to " + std::to_string(kMaxRowWidth));
  char* bytes = bytes_of(address, "address", kAddressBytes);
  const PeerLayout layout = peer_layout(static_cast<int>(rank), static_cast<int>(world_size),
                                        static_cast<int>(rows), static_cast<int>(hidden));
  return PeerGroups::of_process().allocate(static_cast<int32_t>(device), layout, bytes);
}

void allreduce_peers_connect(int64_t peers, Tensor addresses) {
  PeerGroups& groups = PeerGroups::of_process();
  groups.connect(peers, bytes_of(addresses, "addresses", groups.world_size(peers) * kAddressBytes));
}

// For tuning and tests, see AllreduceConfig.
void allreduce_peers_configure(int64_t peers, int64_t cluster, int64_t teams, int64_t shots, int64_t ahead) {
  require(cluster == 1 || cluster == 2 || cluster == 4 || cluster == 8, "cluster", cluster, "1, 2, 4 or 8");
  require(teams >= 0 && teams <= INT32_MAX, "teams", teams, "0 or more");
  require(shots == 1 || shots == 2, "shots", shots, "1 or 2");
  require(ahead >= 0 && ahead <= 1 << 20, "ahead", ahead, "0 to 1048576");
  PeerGroups::of_process().configure(
      peers, {static_cast<int>(cluster), static_cast<int>(teams), shots == 1 ? Shots::kOne : Shots::kTwo,
              static_cast<int>(ahead)});
}

int64_t allreduce_peers_greeted(int64_t peers) { return PeerGroups::of_process().greeted(peers); }
void allreduce_peers_disconnect(int64_t peers) { PeerGroups::of_process().disconnect(peers); }
void allreduce_peers_free(int64_t peers) { PeerGroups::of_process().free(peers); }

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(bwdeploy, library) {
  library.def(
      "allreduce_add_rmsnorm_quant_fp8(Tensor x, Tensor residual, Tensor weight, Tensor? scale, float eps, "
      "int peers, "
      "*, bool eager_rounding=False, bool return_normed=False, bool pdl=True) -> "
      "(Tensor out, Tensor residual_out, Tensor scale_out, Tensor normed)");
  library.def(
      "allreduce_add_rmsnorm_quant_nvfp4(Tensor x, Tensor residual, Tensor weight, Tensor global_scale, "
      "float eps, "
      "int peers, *, bool swizzled=True, bool eager_rounding=False, bool return_normed=False, bool pdl=True) "
      "-> "
      "(Tensor out, Tensor scales, Tensor residual_out, Tensor normed)");
  library.def("allreduce_add_rmsnorm_quant_calls(int device) -> int");
  library.def(
      "allreduce_peers_allocate(int device, int rank, int world_size, int rows, int hidden, Tensor(a!) "
      "address) -> int");
  library.def("allreduce_peers_connect(int peers, Tensor addresses) -> ()");
  library.def("allreduce_peers_configure(int peers, int cluster, int teams, int shots, int ahead) -> ()");
  library.def("allreduce_peers_greeted(int peers) -> int");
  library.def("allreduce_peers_disconnect(int peers) -> ()");
  library.def("allreduce_peers_free(int peers) -> ()");
}

STABLE_TORCH_LIBRARY_IMPL(bwdeploy, CUDA, library) {
  library.impl("allreduce_add_rmsnorm_quant_fp8", TORCH_BOX(&allreduce_add_rmsnorm_quant_fp8));
  library.impl("allreduce_add_rmsnorm_quant_nvfp4", TORCH_BOX(&allreduce_add_rmsnorm_quant_nvfp4));
}

STABLE_TORCH_LIBRARY_IMPL(bwdeploy, CompositeExplicitAutograd, library) {
  library.impl("allreduce_add_rmsnorm_quant_calls", TORCH_BOX(&allreduce_add_rmsnorm_quant_calls));
  library.impl("allreduce_peers_allocate", TORCH_BOX(&allreduce_peers_allocate));
  library.impl("allreduce_peers_connect", TORCH_BOX(&allreduce_peers_connect));
  library.impl("allreduce_peers_configure", TORCH_BOX(&allreduce_peers_configure));
  library.impl("allreduce_peers_greeted", TORCH_BOX(&allreduce_peers_greeted));
  library.impl("allreduce_peers_disconnect", TORCH_BOX(&allreduce_peers_disconnect));
  library.impl("allreduce_peers_free", TORCH_BOX(&allreduce_peers_free));
}
