// The scheduler: fibers, meetings, barriers, deferred actions. See emulator.h.
#include "emulator.h"

#include <setjmp.h>
#include <ucontext.h>

#include <algorithm>
#include <cstdlib>
#include <map>
#include <memory>
#include <random>

namespace emulator {
namespace {

constexpr size_t kStackBytes = 128 * 1024;

struct Fiber {
  Thread thread;
  ucontext_t context{};
  jmp_buf state;
  std::unique_ptr<char[]> stack;
  bool started = false, done = false;
  const char* waiting_for = nullptr;
};

std::vector<std::unique_ptr<Fiber>> fibers;
std::vector<std::unique_ptr<Block>> blocks;
struct Deferred {
  Work kind;
  std::function<void()> run;
};
std::map<uint64_t, Deferred> deferred;
enum class When { kRandom, kNow, kLate };
When when[2];  // by kind
std::function<void()> body;
Fiber* current = nullptr;
jmp_buf scheduler;
ucontext_t scheduler_context;
std::mt19937 random_bits;
std::string error;
uint64_t events = 0, next_ticket = 0;
dim3 dim_of_block, dim_of_grid;

void entry() {
  body();
  current->done = true;
  --current->thread.block->live;
  progress();
  _longjmp(scheduler, 1);
}

void resume(Fiber& fiber) {
  current = &fiber;
  if (_setjmp(scheduler) == 0) {
    if (fiber.started) _longjmp(fiber.state, 1);
    fiber.started = true;
    swapcontext(&scheduler_context, &fiber.context);
  }
  current = nullptr;
}

void run_deferred() {
  auto action = deferred.begin();
  std::advance(action, random_bits() % deferred.size());
  auto run = std::move(action->second.run);
  deferred.erase(action);
  run();
  progress();
}

std::string who_waits() {
  std::map<std::string, int> count;
  for (const auto& fiber : fibers)
    if (!fiber->done) ++count[fiber->waiting_for ? fiber->waiting_for : "nothing"];
  std::string text = "deadlock:";
  for (const auto& [what, threads] : count) text += " " + std::to_string(threads) + " threads wait for " + what + ";";
  return text;
}

void start_cluster(int64_t first_block, unsigned threads, size_t shared_bytes, unsigned cluster) {
  blocks.clear();
  fibers.clear();
  for (unsigned rank = 0; rank < cluster; ++rank) {
    auto block = std::make_unique<Block>();
    block->index = static_cast<unsigned>(first_block + rank), block->rank = rank;
    block->storage.assign(shared_bytes + 1024, static_cast<char>(0xff));  // NaN in every type we use
    block->shared = block->storage.data() + (1024 - reinterpret_cast<uintptr_t>(block->storage.data()) % 1024) % 1024;
    block->shared_bytes = shared_bytes;
    block->live = static_cast<int>(threads);
    block->warps.resize((threads + 31) / 32);
    block->warpgroups.resize((threads + 127) / 128);
    for (unsigned i = 0; i < threads; ++i) {
      auto fiber = std::make_unique<Fiber>();
      fiber->thread.block = block.get();
      fiber->thread.index = uint3{i, 0, 0};
      fiber->stack.reset(new char[kStackBytes]);
      getcontext(&fiber->context);
      fiber->context.uc_stack.ss_sp = fiber->stack.get();
      fiber->context.uc_stack.ss_size = kStackBytes;
      fiber->context.uc_link = nullptr;
      makecontext(&fiber->context, entry, 0);
      fibers.push_back(std::move(fiber));
    }
    blocks.push_back(std::move(block));
  }
}

void run_cluster() {
  std::vector<Fiber*> order;
  for (auto& fiber : fibers) order.push_back(fiber.get());
  while (!order.empty() && error.empty()) {
    const uint64_t before = events;
    std::shuffle(order.begin(), order.end(), random_bits);
    for (Fiber* fiber : order) {
      resume(*fiber);
      if (!error.empty()) return;
      if (when[0] == When::kRandom && !deferred.empty() && random_bits() % 64 == 0) run_deferred();
    }
    order.erase(std::remove_if(order.begin(), order.end(), [](Fiber* fiber) { return fiber->done; }), order.end());
    if (events != before || order.empty()) continue;
    if (deferred.empty()) error = who_waits();
    else run_deferred();
  }
  while (!deferred.empty() && error.empty()) run_deferred();
}

}  // namespace

Thread& thread() { return current->thread; }
unsigned cluster_size() { return static_cast<unsigned>(blocks.size()); }
dim3 block_dim() { return dim_of_block; }
dim3 grid_dim() { return dim_of_grid; }
void progress() { ++events; }

Block& block_of_rank(unsigned rank) {
  if (rank >= blocks.size()) fault("no block of this rank in the cluster");
  return *blocks[rank];
}

void wait_until(const char* what, const std::function<bool()>& ready) {
  while (!ready()) {
    current->waiting_for = what;
    if (_setjmp(current->state) == 0) _longjmp(scheduler, 1);
  }
  current->waiting_for = nullptr;
}

void pause() {
  for (int turns = static_cast<int>(random_bits() % 6); turns > 0; --turns) {
    progress();
    if (_setjmp(current->state) == 0) _longjmp(scheduler, 1);
  }
}

void fault(const std::string& message) {
  error = message;
  if (current) _longjmp(scheduler, 1);
  std::abort();
}

uint64_t defer(Work kind, std::function<void()> action) {
  const uint64_t ticket = ++next_ticket;
  const When moment = when[static_cast<int>(kind)];
  progress();
  if (moment == When::kNow || (moment == When::kRandom && random_bits() % 2)) action();
  else deferred.emplace(ticket, Deferred{kind, std::move(action)});
  return ticket;
}

void finish(uint64_t ticket) {
  const auto action = deferred.find(ticket);
  if (action == deferred.end()) return;
  auto run = std::move(action->second.run);
  deferred.erase(action);
  run();
  progress();
}

void meet(Meeting& meeting, int count, int slot, void* argument, const void* kind,
          const std::function<void(void**)>& act) {
  if (meeting.arrived == 0) meeting.kind = kind, meeting.arguments.assign(count, nullptr);
  if (meeting.kind != kind) fault("threads of one warp or warpgroup are at different instructions");
  meeting.arguments[slot] = argument;
  progress();
  if (++meeting.arrived == count) {
    act(meeting.arguments.data());
    meeting.arrived = 0;
    ++meeting.generation;
    return;
  }
  const uint64_t mine = meeting.generation;
  wait_until("the rest of the warp or warpgroup", [&] { return meeting.generation != mine; });
}

Meeting& warp_meeting() { return thread().block->warps[thread().index.x / 32]; }
Meeting& warpgroup_meeting() { return thread().block->warpgroups[thread().index.x / 128]; }

void sync_threads() {
  Meeting& meeting = thread().block->everyone;
  const uint64_t mine = meeting.generation;
  ++meeting.arrived;
  progress();
  const auto complete = [&] { return meeting.generation != mine || meeting.arrived >= thread().block->live; };
  wait_until("__syncthreads", complete);
  if (meeting.generation == mine) meeting.arrived = 0, ++meeting.generation;
  progress();
}

void named_arrive(int id, int threads) {
  NamedBarrier& barrier = thread().block->named[id];
  if (threads % 32) fault("named barrier: the count must be a multiple of 32");
  if (barrier.arrived == 0) barrier.expected = threads;
  if (barrier.expected != threads) fault("named barrier: threads expect different counts");
  progress();
  if (++barrier.arrived == threads) barrier.arrived = 0, ++barrier.generation;
}

void named_sync(int id, int threads) {
  const uint64_t mine = thread().block->named[id].generation;
  named_arrive(id, threads);
  wait_until("a named barrier", [&] { return thread().block->named[id].generation != mine; });
}

void cluster_sync() {
  static Meeting meeting;
  static const char kind = 0;
  const int threads = static_cast<int>(block_dim().x);
  const int slot = static_cast<int>(thread().block->rank) * threads + static_cast<int>(thread().index.x);
  meet(meeting, threads * static_cast<int>(blocks.size()), slot, nullptr, &kind, [](void**) {});
}

uint32_t shared_address(const void* pointer) {
  const Block& block = *thread().block;
  const ptrdiff_t offset = static_cast<const char*>(pointer) - block.shared;
  if (offset < 0 || offset >= static_cast<ptrdiff_t>(block.shared_bytes)) fault("address is not in shared memory");
  return block.rank << 24 | static_cast<uint32_t>(offset);
}

char* shared_pointer(uint32_t address) { return block_of_rank(address >> 24).shared + (address & 0xffffff); }

std::string run(int64_t grid, unsigned threads, size_t shared_bytes, unsigned cluster,
                const std::function<void()>& kernel) {
  constexpr When kMoments[][2] = {{When::kRandom, When::kRandom}, {When::kNow, When::kLate}, {When::kLate, When::kNow},
                                  {When::kNow, When::kNow},       {When::kLate, When::kLate}};
  const char* text = std::getenv("HUNYUAN_EMULATOR_SEED");
  const int seed = text ? std::atoi(text) : 0;
  random_bits.seed(seed);
  when[0] = kMoments[seed % 5][0], when[1] = kMoments[seed % 5][1];
  if (shared_bytes > 227 * 1024) return "more than 227 KB of shared memory";
  if (grid % cluster) return "the grid does not divide into clusters";
  error.clear();
  deferred.clear();
  body = kernel;
  dim_of_block = dim3(threads);
  dim_of_grid = dim3(static_cast<unsigned>(grid));
  for (int64_t first = 0; first < grid && error.empty(); first += cluster) {
    start_cluster(first, threads, shared_bytes, cluster);
    run_cluster();
  }
  deferred.clear();
  return error;
}

}  // namespace emulator
