/* Counts the instructions of an emulated core, one call an instruction, for unicorn's UC_HOOK_CODE.
 *
 * Instructions of an IT block whose condition fails are counted as executed: the core fetches and issues them.
 * The stack pointer is read only after instructions that were seen to move it (or that run for the first time).
 */
#include <stdint.h>

typedef int (*read_register)(void *engine, int identifier, void *value);

/* The same fields, in the same order, as dnnc.run.machine._Counter. */
struct counter {
  uint64_t base;          /* address of the code */
  uint64_t halfwords;     /* its length */
  const uint8_t *code;    /* its bytes */
  uint32_t *executions;   /* of each halfword's instruction */
  uint32_t *left;         /* how often each halfword's instruction did not lead to the next one */
  uint8_t *notes;         /* of each halfword's instruction */
  read_register read;
  int32_t sp_identifier;
  int32_t thumb;
  uint64_t instructions;
  uint64_t sp;
  uint64_t lowest_sp;
  uint64_t previous; /* halfword of the last instruction; NONE: unknown */
  uint64_t it_from;  /* the current IT block's instructions */
  uint64_t it_to;
};

enum { SEEN = 0x80, MOVES_SP = 0x40, FOLLOWERS = 0x07 };
#define NONE UINT64_MAX

static unsigned halfword(const struct counter *c, uint64_t i) {
  return i < c->halfwords ? (unsigned)(c->code[2 * i] | c->code[2 * i + 1] << 8) : 0;
}

/* Instructions that an IT instruction makes conditional: 4 - trailing zeros of its mask; 0 for any other. */
static uint8_t followers(unsigned instruction) {
  uint8_t n = 4;
  if ((instruction & 0xFF00u) != 0xBF00u || (instruction & 0xFu) == 0) return 0;
  for (; !(instruction & 1u); instruction >>= 1) --n;
  return n;
}

static unsigned width(const struct counter *c, uint64_t i) {
  const unsigned first = halfword(c, i);
  return (c->thumb ? first >= 0xE800u : (first & 3u) == 3u) ? 2 : 1;
}

static void watch_stack(struct counter *c, void *engine) {
  uint32_t sp = 0;
  const uint64_t p = c->previous;
  const int known = p < c->halfwords;
  if (known && (c->notes[p] & (SEEN | MOVES_SP)) == SEEN) return;
  c->read(engine, c->sp_identifier, &sp);
  if (known) c->notes[p] |= SEEN;
  if (sp == c->sp) return;
  if (known) c->notes[p] |= MOVES_SP;
  c->sp = sp;
  if (sp < c->lowest_sp) c->lowest_sp = sp;
}

void dnnc_count(void *engine, uint64_t address, uint32_t size, void *user) {
  struct counter *c = user;
  const uint64_t i = (address - c->base) >> 1;
  (void)size;
  watch_stack(c, engine);
  if (c->previous < c->halfwords && c->previous + width(c, c->previous) != i) ++c->left[c->previous];
  c->previous = i;
  if (i >= c->halfwords) {
    ++c->instructions;
    return;
  }
  if (c->it_from) {
    if (address >= c->it_from && address < c->it_to) return;
    c->it_from = 0;
  }
  ++c->instructions;
  ++c->executions[i];
  if (c->thumb && !(c->notes[i] & SEEN)) c->notes[i] |= followers(halfword(c, i));
  if (c->notes[i] & FOLLOWERS) {
    uint64_t next = i + 1;
    for (unsigned n = c->notes[i] & FOLLOWERS; n > 0; --n) {
      ++c->instructions;
      if (next < c->halfwords) ++c->executions[next];
      next += width(c, next);
    }
    c->it_from = c->base + 2 * (i + 1);
    c->it_to = c->base + 2 * next;
  }
}
