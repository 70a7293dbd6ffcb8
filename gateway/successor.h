// The program started anew, by the one that runs, to take its place: after an update of the
// package, without a client that is refused.
//
// It inherits the listening sockets, and says when it serves. Until then the one before goes on as
// if nothing had happened; afterwards it takes no new clients and ends with its last session.
// One loop thread.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/types.h>
#include <uv.h>

#include <memory>
#include <string>
#include <tl/expected.hpp>
#include <vector>

#include "gateway/net/uv_handle.h"

namespace gatepost {

class Successor {
 public:
  class Observer {
   public:
    // The successor serves, or has ended before it did.
    virtual void OnSuccessor(bool serves) = 0;

   protected:
    ~Observer() = default;
  };

  // Runs `arguments`, of which the first is the program, with `sockets`. OnSuccessor is called
  // once; never from here.
  [[nodiscard]] static tl::expected<std::unique_ptr<Successor>, std::string> Start(
      uv_loop_t* loop, const std::vector<std::string>& arguments, const std::vector<int>& sockets,
      Observer& observer);
  // Leaves it alone, whatever it does.
  ~Successor() = default;
  Successor(const Successor&) = delete;
  Successor& operator=(const Successor&) = delete;

  [[nodiscard]] pid_t pid() const { return process_->pid; }
  // Kill ends it; OnSuccessor follows.
  void Kill();

 private:
  Successor(uv_loop_t* loop, Observer& observer);
  void Tell(bool serves);

  Observer& observer_;
  net::HandlePtr<uv_process_t> process_;
  net::HandlePtr<uv_pipe_t> pipe_;
  net::HandlePtr<uv_timer_t> patience_;
  char word_ = 0;
  bool told_ = false;
};

// Inheritance is what the one who has started the process has left it.
struct Inheritance {
  std::vector<int> sockets;  // listening; of a predecessor or of systemd (sd_listen_fds(3))
  int predecessor = -1;      // where a predecessor waits for Serves; -1: there is none

  // Take reads and clears the environment; once, before other threads run.
  [[nodiscard]] static Inheritance Take();
  // Serves tells the predecessor that it may go.
  void Serves();
};

}  // namespace gatepost
