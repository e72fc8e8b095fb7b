// The peer groups of this process: memory allocated, handed out, mapped, checked and given back.
//
// Set-up goes in steps, because between them all ranks must have done the one before (peers.py sees to that):
// allocate, connect (map the memory of the others and store a greeting into it), greeted (which greetings
// came), disconnect, free. Memory is allocated with cudaMalloc and shared through CUDA's IPC handles: they
// need nothing but the CUDA runtime, unlike torch's symmetric memory, whose interface is private and changes
// with the torch release.
#pragma once
#include <cuda_runtime_api.h>

#include <cstring>
#include <map>
#include <mutex>
#include <optional>
#include <string>

#include "allreduce_add_rmsnorm_quant/params.h"
#include "common/torch_checks.h"

namespace bwdeploy {

constexpr int64_t kAddressBytes = 64;
static_assert(sizeof(cudaIpcMemHandle_t) == kAddressBytes, "peers.py exchanges 64 bytes of each rank");

inline void require_done(cudaError_t error, const std::string& name, const char* wanted) {
  require(error == cudaSuccess, name.c_str(), std::string("CUDA error ") + cudaGetErrorString(error), wanted);
}

using torch::stable::accelerator::DeviceGuard;

struct PeerGroup {
  int32_t device;
  PeerMemory memory;
  bool connected;
  std::optional<AllreduceConfig> config;  // in place of the op's own choice
};

class PeerGroups {
 public:
  static PeerGroups& of_process() {
    static PeerGroups groups;
    return groups;
  }

  // `address` takes the 64 bytes by which other processes find the memory. Returns the handle of the group.
  int64_t allocate(int32_t device, const PeerLayout& layout, void* address) {
    int devices = 0;
    require_done(cudaGetDeviceCount(&devices), "device", "a CUDA device");
    require(device >= 0 && device < devices, "device", device, "0 to " + std::to_string(devices - 1));
    const DeviceGuard guard(device);
    PeerGroup group = {device, {layout, {}}, false, std::nullopt};
    void*& own = group.memory.base[layout.rank];
    const int64_t bytes = peer_bytes(layout);
    require_done(cudaMalloc(&own, bytes), "peer memory",
                 (std::to_string(bytes) + " bytes of GPU memory").c_str());
    cudaError_t error = cudaMemset(own, 0xff, bytes);  // every word: not arrived
    if (error == cudaSuccess) error = cudaMemset(own, 0, kPeerDataOffset);
    if (error == cudaSuccess) error = cudaDeviceSynchronize();
    if (error == cudaSuccess) error = cudaIpcGetMemHandle(static_cast<cudaIpcMemHandle_t*>(address), own);
    if (error != cudaSuccess) cudaFree(own);
    require_done(error, "peer memory", "memory that other processes can map");
    const std::lock_guard<std::mutex> lock(mutex_);
    groups_[++last_] = group;
    return last_;
  }

  int64_t world_size(int64_t handle) {
    const std::lock_guard<std::mutex> lock(mutex_);
    return known(handle).memory.layout.world;
  }

  // `addresses`: 64 bytes of each rank, in order.
  void connect(int64_t handle, const char* addresses) {
    const std::lock_guard<std::mutex> lock(mutex_);
    PeerGroup& group = known(handle);
    require(!group.connected, "peers", "a group that is connected", "one that is not");
    const DeviceGuard guard(group.device);
    const PeerLayout& layout = group.memory.layout;
    for (int rank = 0; rank < layout.world; ++rank) {
      const std::string name = "memory of rank " + std::to_string(rank);
      void*& base = group.memory.base[rank];
      if (rank != layout.rank) {
        cudaIpcMemHandle_t address;
        std::memcpy(&address, addresses + rank * sizeof(address), sizeof(address));
        require_done(
            cudaIpcOpenMemHandle(&base, address, cudaIpcMemLazyEnablePeerAccess), name,
            "to map it: GPUs that reach each other, ranks in processes of their own, containers that share "
            "the IPC namespace (--ipc=host)");
      }
      auto* state = static_cast<PeerState*>(base);
      require_done(
          cudaMemcpy(&state->greeting[layout.rank], &kGreeting, sizeof(kGreeting), cudaMemcpyHostToDevice),
          name, "to store into it");
    }
    group.connected = true;
  }

  // Bit r is set if rank r has stored into this rank's memory. To be called once all ranks have connected.
  int64_t greeted(int64_t handle) {
    const std::lock_guard<std::mutex> lock(mutex_);
    const PeerGroup& group = known(handle);
    const DeviceGuard guard(group.device);
    const PeerLayout& layout = group.memory.layout;
    PeerState state;
    require_done(cudaMemcpy(&state, group.memory.base[layout.rank], sizeof(state), cudaMemcpyDeviceToHost),
                 "peer memory", "to read the greetings");
    int64_t ranks = 0;
    for (int rank = 0; rank < layout.world; ++rank)
      if (state.greeting[rank] == kGreeting) ranks |= int64_t{1} << rank;
    return ranks;
  }

  // Waits for the device, then unmaps what belongs to others. The own memory stays until they have done the
  // same.
  void disconnect(int64_t handle) {
    const std::lock_guard<std::mutex> lock(mutex_);
    PeerGroup& group = known(handle);
    const DeviceGuard guard(group.device);
    require_done(cudaDeviceSynchronize(), "peer memory", "a device that has finished");
    group.connected = false;
    for (int rank = 0; rank < group.memory.layout.world; ++rank) {
      void*& base = group.memory.base[rank];
      if (rank == group.memory.layout.rank || base == nullptr) continue;
      require_done(cudaIpcCloseMemHandle(base), "memory of rank " + std::to_string(rank), "to unmap it");
      base = nullptr;
    }
  }

  void free(int64_t handle) {
    const std::lock_guard<std::mutex> lock(mutex_);
    const PeerGroup group = known(handle);
    require(!group.connected, "peers", "a group that is connected", "one that was disconnected on all ranks");
    groups_.erase(handle);
    const DeviceGuard guard(group.device);
    require_done(cudaFree(group.memory.base[group.memory.layout.rank]), "peer memory", "to free it");
  }

  // All ranks must set the same, or their bits may differ.
  void configure(int64_t handle, const AllreduceConfig& config) {
    const std::lock_guard<std::mutex> lock(mutex_);
    known(handle).config = config;
  }

  // For a launch on `device`.
  PeerGroup connected(int64_t handle, int32_t device) {
    const std::lock_guard<std::mutex> lock(mutex_);
    const PeerGroup& group = known(handle);
    require(group.connected, "peers", "a group that is not connected", "one that all ranks have connected");
    require(group.device == device, "peers", "a group of cuda:" + std::to_string(group.device),
            "one of cuda:" + std::to_string(device) + ", where x is");
    return group;
  }

 private:
  PeerGroup& known(int64_t handle) {
    const auto found = groups_.find(handle);
    require(found != groups_.end(), "peers", handle,
            "the handle of an open group (bwdeploy_kernels.peers.open_peers)");
    return found->second;
  }

  std::mutex mutex_;
  std::map<int64_t, PeerGroup> groups_;
  int64_t last_ = 0;
};

}  // namespace bwdeploy
