// SPDX-License-Identifier: Apache-2.0
#include "ebb/autograd/node.h"

#include "ebb/autograd/leaf.h"
#include "ebb/autograd/op.h"

namespace ebb::detail {

constinit thread_local ThreadTape tls_tape;

namespace {

// The list of the release_last() that runs on this thread.
constinit thread_local Block** tls_pending = nullptr;

void destroy_leaf(Leaf* leaf) {
  // The leaf's own tensor holds an edge to the leaf that was never counted.
  (void)const_cast<Edge&>(leaf->self.edge()).release();
  delete leaf->extras;
  leaf->~Leaf();
  deallocate(leaf);
}

// Takes a node apart. Nodes whose last reference goes with it are put on `*pending`, linked by
// `next`, so that a chain of any length is freed in a loop.
void destroy_one(Node* n, Block** pending) {
  if (n->is_leaf()) {
    destroy_leaf(static_cast<Leaf*>(n));
    return;
  }
  for (int i = 0; i < n->n_inputs; ++i) {
    Node* input = n->edges()[i].release();
    if (input != nullptr && release(input)) {
      input->next = *pending;
      *pending = input;
    }
  }
  for (int i = 0; i < n->n_saved; ++i) n->saved()[i].~Array();
  if (n->def->destroy_attrs != nullptr) n->def->destroy_attrs(n->attrs());
  delete n->extras;
  deallocate(n);
}

}  // namespace

void release_last(Node* node) {
  if (tls_pending != nullptr) {  // from an attribute or a hook of a node that is being taken apart
    node->next = *tls_pending;
    *tls_pending = node;
    return;
  }
  Block* pending = nullptr;
  tls_pending = &pending;
  destroy_one(node, &pending);
  while (pending != nullptr) {
    auto* n = static_cast<Node*>(pending);
    pending = n->next;
    destroy_one(n, &pending);
  }
  tls_pending = nullptr;
}

void destroy_node(Block* b) { release_last(static_cast<Node*>(b)); }

}  // namespace ebb::detail
