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
  ThreadHeap* const heap = tls_heap;
  const Edge* e = n->edges();
  for (const Edge* const end = e + n->n_inputs; e != end; ++e) {
    Node* input = e->node();
    if (input != nullptr && release_on(heap, input)) {
      input->next = *pending;
      *pending = input;
    }
  }
  const auto* a = reinterpret_cast<const Array*>(e);
  for (const Array* const end = a + n->n_saved; a != end; ++a) {
    if (a->rep() != nullptr && release_on(heap, a->rep())) destroy_array_on(heap, a->rep());
  }
  if (n->def->destroy_attrs != nullptr) n->def->destroy_attrs(n->attrs());
  if (n->extras != nullptr) [[unlikely]]
    delete n->extras;
  deallocate_on(heap, n);
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
