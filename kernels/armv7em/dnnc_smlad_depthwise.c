/* Depthwise convolution, four channels at a time, by SMLAD along the rows of the image.
 *
 * The input rows under a window are held as 16-bit pairs of neighbouring columns, one ring of rows for a tile of four
 * channels: column pair after column pair, in it the rows of the ring, in it the four channels. So a window is one
 * contiguous run of words, whatever its size, and borders are zero points like any other value. Windows that begin at
 * an odd column use weights that are moved by one column; as the ring turns, so do the rows of the weights.
 */
#include "dnnc_smlad.h"

/* A column pair of four channels. */
typedef struct {
  int16_t pairs[8];
} entry_t;

/* Pixel j's window begins at column j * stride + odd of the ring; odd left padding is made even by one more column. */
typedef struct {
  uint32_t rows;    /* of the ring: what a window spans */
  uint32_t window;  /* entries of a window: column pairs it spans * rows */
  uint32_t padded;  /* entries that the loop takes: whole threes */
  uint32_t columns; /* column pairs of the image */
  uint32_t phases;  /* 2 where some windows begin at even columns and some at odd ones */
  uint32_t odd;     /* whether the first one begins at an odd one */
} shape_t;

static shape_t shape_of(const dnnc_linear_t *layer) {
  shape_t shape;
  uint32_t span = (layer->kernel_w - 1u) * layer->dilation_w + 1u, pairs;
  shape.odd = layer->pad_left & 1u;
  shape.phases = 1 + (layer->stride_w & 1u);
  pairs = shape.odd || shape.phases == 2 ? span / 2 + 1 : (span + 1) / 2;
  shape.rows = (layer->kernel_h - 1u) * layer->dilation_h + 1u;
  shape.window = pairs * shape.rows;
  shape.padded = (shape.window + 2) / 3 * 3;
  shape.columns = ((layer->out_w - 1u) * layer->stride_w + shape.odd) / 2 + pairs;
  return shape;
}

/* Every phases-th pixel of a row. left: pixels still to be made; steps are bytes. */
typedef struct {
  const entry_t *x, *w;
  const int32_t *bias, *multiplier;
  const entry_t *w_end;
  int8_t *y;
  uint32_t left;
  uint32_t x_step, y_step;
  int32_t zero;
  uint32_t left_shift;
} job_t;

#if DNNC_SMLAD_ASM

/* `count` column pairs of one row: the four bytes at `a` and those `next` bytes further, to an entry. */
DNNC_NAKED static void split(entry_t *to DNNC_IN_ASM, const int8_t *a DNNC_IN_ASM, uint32_t next DNNC_IN_ASM,
                             uint32_t count DNNC_IN_ASM, uint32_t step DNNC_IN_ASM, uint32_t to_step DNNC_IN_ASM) {
  __asm__ volatile(
      "push {r4-r11}\n"
      "ldrd r10, r11, [sp, #32]\n"
      "1:\n"
      "ldr r4, [r1]\n"
      "ldr r5, [r1, r2]\n"
      "add r1, r1, r10\n"
      "sxtb16 r6, r4\n"
      "sxtb16 r8, r5\n"
      "sxtb16 r7, r4, ror #8\n"
      "sxtb16 r9, r5, ror #8\n"
      "pkhbt r4, r6, r8, lsl #16\n"
      "pkhtb r6, r8, r6, asr #16\n"
      "pkhbt r5, r7, r9, lsl #16\n"
      "pkhtb r7, r9, r7, asr #16\n"
      "stm r0, {r4-r7}\n"
      "add r0, r0, r11\n"
      "subs r3, r3, #1\n"
      "bne 1b\n"
      "pop {r4-r11}\n"
      "bx lr\n");
}

/* Four channels of the pixels of `count` jobs. */
DNNC_NAKED static void make(const job_t *jobs DNNC_IN_ASM, uint32_t count DNNC_IN_ASM) {
#define PAIRS                          \
      "ldm r0!, {r8-r11}\n"            \
      "ldm r1!, {r2, r3, r12, lr}\n"   \
      "smlad r4, r8, r2, r4\n"         \
      "smlad r5, r9, r3, r5\n"         \
      "smlad r6, r10, r12, r6\n"       \
      "smlad r7, r11, lr, r7\n"
  /* on the stack: x 0, w 4, bias 8, multiplier 12, w_end 16, y 20, left 24, x_step 28, y_step 32, zero 36, shift 40 */
  __asm__ volatile(
      "push {r0, r1, r4-r11, lr}\n"
      "4:\n"
      "ldm r0, {r0-r10}\n"
      "push {r0-r10}\n"
      "1:\n"
      "ldr r2, [sp, #28]\n"
      "ldrd r0, r1, [sp]\n"
      "ldr r12, [sp, #8]\n"
      "add r2, r2, r0\n"
      "str r2, [sp]\n"
      "ldm r12, {r4-r7}\n"
      "2:\n" PAIRS PAIRS PAIRS
      "ldr r2, [sp, #16]\n"
      "cmp r1, r2\n"
      "bne 2b\n"
      "ldr r2, [sp, #40]\n"
      "cbz r2, 3f\n"
      "lsl r4, r4, r2\n"
      "lsl r5, r5, r2\n"
      "lsl r6, r6, r2\n"
      "lsl r7, r7, r2\n"
      "3:\n"
      "ldr r12, [sp, #12]\n"
      "ldrd r8, lr, [sp, #32]\n"
      "ldm r12, {r0-r3}\n"
      "smmlar r4, r4, r0, lr\n"
      "smmlar r5, r5, r1, lr\n"
      "smmlar r6, r6, r2, lr\n"
      "smmlar r7, r7, r3, lr\n"
      "ldrd r0, r1, [sp, #20]\n"
      "ssat r4, #8, r4\n"
      "ssat r5, #8, r5\n"
      "ssat r6, #8, r6\n"
      "ssat r7, #8, r7\n"
      "strb r4, [r0]\n"
      "strb r5, [r0, #1]\n"
      "strb r6, [r0, #2]\n"
      "strb r7, [r0, #3]\n"
      "add r0, r0, r8\n"
      "subs r1, r1, #1\n"
      "strd r0, r1, [sp, #20]\n"
      "bne 1b\n"
      "add sp, sp, #44\n"
      "ldrd r0, r1, [sp]\n"
      "add r0, r0, #44\n"
      "subs r1, r1, #1\n"
      "strd r0, r1, [sp]\n"
      "bne 4b\n"
      "pop {r0, r1, r4-r11, pc}\n");
#undef PAIRS
}

#else

static void split(entry_t *to, const int8_t *a, uint32_t next, uint32_t count, uint32_t step, uint32_t to_step) {
  for (uint32_t i = 0; i < count; i++, to += to_step / sizeof *to) {
    for (uint32_t c = 0; c < 4; c++) {
      to->pairs[2 * c] = a[i * step + c];
      to->pairs[2 * c + 1] = a[i * step + next + c];
    }
  }
}

static void make_one(const job_t *job, uint32_t j, uint32_t c) {
  const entry_t *x = job->x + j * (job->x_step / sizeof *x);
  int32_t sum = job->bias[c];
  for (uint32_t i = 0; i < (uint32_t)(job->w_end - job->w); i++) {
    sum += x[i].pairs[2 * c] * job->w[i].pairs[2 * c] + x[i].pairs[2 * c + 1] * job->w[i].pairs[2 * c + 1];
  }
  int32_t code = job->zero + dnnc_rescale(sum, job->multiplier[c], job->left_shift);
  job->y[j * job->y_step + c] = (int8_t)dnnc_clamp(code, -128, 127);
}

static void make(const job_t *jobs, uint32_t count) {
  for (; count; count--, jobs++) {
    for (uint32_t j = 0; j < jobs->left; j++) {
      for (uint32_t c = 0; c < 4; c++) make_one(jobs, j, c);
    }
  }
}

#endif

/* The weights for a ring that begins at its slot 0: for every phase a window, its end filled with zeros. */
static void place(const dnnc_linear_t *layer, shape_t shape, const int8_t *taps, entry_t *windows) {
  static const entry_t none = {{0, 0, 0, 0, 0, 0, 0, 0}};
  for (uint32_t i = 0; i < shape.padded * shape.phases; i++) windows[i] = none;
  for (uint32_t kh = 0; kh < layer->kernel_h; kh++, windows += layer->dilation_h) {
    uint32_t column = shape.odd;
    for (uint32_t kw = layer->kernel_w; kw; kw--, column += layer->dilation_w, taps += 4) {
      int16_t t0 = taps[0], t1 = taps[1], t2 = taps[2], t3 = taps[3];
      int16_t *to = windows[column / 2 * shape.rows].pairs + column % 2;
      to[0] = t0;
      to[2] = t1;
      to[4] = t2;
      to[6] = t3;
      if (shape.phases == 2) { /* the other phase begins at the other parity */
        uint32_t other = column + 1 - 2 * shape.odd;
        to = windows[shape.padded + other / 2 * shape.rows].pairs + other % 2;
        to[0] = t0;
        to[2] = t1;
        to[4] = t2;
        to[6] = t3;
      }
    }
  }
}

/* The same weights for a ring that begins at another slot. */
static void turn(shape_t shape, const entry_t *from, uint32_t slot, entry_t *to) {
  for (uint32_t phase = 0; phase < shape.phases; phase++) {
    uint32_t i = 0;
    for (; i < shape.window; i += shape.rows, from += shape.rows, to += shape.rows) {
      const entry_t *source = from;
      for (uint32_t r = slot; r < shape.rows; r++) to[r] = *source++;
      for (uint32_t r = 0; r < slot; r++) to[r] = *source++;
    }
    for (; i < shape.padded; i++) *to++ = *from++;
  }
}

/* One tile: its channels, and whether they lie together, four of them, so that words can be read and written. */
typedef struct {
  uint32_t count;
  uint16_t at[4];
  int together;
} tile_t;

/* Where an input row of the image lies in the ring: its first column pair, how many there are, and whether half a pair
 * follows. What lies left and right of it stays zero points. */
typedef struct {
  entry_t *first;
  uint32_t pairs;
  int half;
} span_t;

static span_t span_of(const dnnc_linear_t *layer, shape_t shape, entry_t *ring) {
  uint32_t begin = (layer->pad_left + shape.odd) / 2, room = shape.columns > begin ? shape.columns - begin : 0;
  span_t span = {ring + begin * shape.rows, layer->in_w / 2u, 0};
  if (span.pairs > room) span.pairs = room;
  span.half = layer->in_w % 2 && span.pairs < room;
  return span;
}

/* A row of scattered channels, four bytes a pixel. */
static void gather(const dnnc_linear_t *layer, const tile_t *tile, const int8_t *x, int8_t *words) {
  for (uint32_t j = layer->in_w; j; j--, x += layer->in_stride, words += 4) {
    for (uint32_t c = 0; c < tile->count; c++) words[c] = x[tile->at[c]];
  }
}

static void scatter(const dnnc_linear_t *layer, const tile_t *tile, const int8_t *held, int8_t *y) {
  for (uint32_t j = layer->out_w; j; j--, y += layer->out_stride, held += 4) {
    for (uint32_t c = 0; c < tile->count; c++) y[tile->at[c]] = held[c];
  }
}

static void fill(entry_t *to, uint32_t count, uint32_t step, entry_t value) {
  for (; count; count--, to += step) *to = value;
}

/* The scratch: the taps | for each turn of the ring, for each phase, a window of weights | the ring, and two entries
 * that a window in threes may reach beyond it | four bytes a column of a row gathered from scattered channels | four
 * bytes a pixel of a row to be scattered. */
void dnnc_smlad_depthwise(const dnnc_linear_t *layer, const int8_t *x, int8_t *y, void *scratch,
                          dnnc_smlad_unpack_t *unpack, uint32_t taps_bytes) {
  shape_t shape = shape_of(layer);
  int32_t rows = (int32_t)shape.rows, in_h = layer->in_h, stride_h = layer->stride_h;
  uint32_t out_h = layer->out_h, out_w = layer->out_w, turns = out_h < shape.rows ? out_h : shape.rows;
  uint32_t out_row = out_w * layer->out_stride, in_row = (uint32_t)layer->in_w * layer->in_stride;
  uint32_t column_bytes = shape.rows * (uint32_t)sizeof(entry_t), count = shape.phases == 2 && out_w > 1 ? 2 : 1;
  int8_t *taps = scratch;
  entry_t *windows = (entry_t *)(void *)(taps + taps_bytes);
  entry_t *ring = windows + turns * shape.phases * shape.padded;
  uint32_t ring_size = shape.columns * shape.rows + 2;
  int8_t *words = (int8_t *)(ring + ring_size), *held = words + 4u * layer->in_w;
  const uint32_t *packed = layer->weights;
  span_t span = span_of(layer, shape, ring);
  entry_t outside;
  int32_t bias[4], multiplier[4];
  job_t jobs[2];
  for (uint32_t c = 0; c < 8; c++) outside.pairs[c] = layer->in_zero;
  fill(ring, ring_size, 1, outside);
  for (uint32_t o = 0; o < layer->out_c; o += 4) {
    tile_t tile = {layer->out_c - o < 4u ? layer->out_c - o : 4u, {0, 0, 0, 0}, 0};
    for (uint32_t c = 0; c < tile.count; c++) tile.at[c] = layer->channels ? layer->channels[o + c] : (uint16_t)(o + c);
    tile.together = tile.count == 4 && !layer->channels;
    packed = unpack(taps, packed, layer->kernel_h * (uint32_t)layer->kernel_w);
    place(layer, shape, taps, windows);
    dnnc_smlad_tables(layer->bias, layer->scales, o, bias, multiplier);
    uint32_t in_stride = tile.together ? layer->in_stride : 4, out_stride = tile.together ? layer->out_stride : 4;
    for (uint32_t phase = 0; phase < count; phase++) {
      job_t *job = &jobs[phase];
      job->x = ring + (phase * layer->stride_w + shape.odd) / 2 * shape.rows;
      job->bias = bias;
      job->multiplier = multiplier;
      job->left = (out_w + (phase ? 0 : shape.phases - 1)) / shape.phases;
      job->x_step = shape.phases * layer->stride_w / 2 * column_bytes;
      job->y_step = shape.phases * out_stride;
      job->zero = layer->out_zero;
      job->left_shift = layer->left_shift;
    }
    int32_t top = -(int32_t)layer->pad_top, next = top; /* the next input row to load */
    uint32_t next_slot = 0, slot = 0;
    const entry_t *turned = windows, *turned_end = windows + shape.rows * shape.phases * shape.padded;
    const int8_t *from = x + tile.at[0]; /* of row 0 */
    int8_t *to = y;
    for (uint32_t i = 0; i < out_h; i++, top += stride_h, to += out_row) {
      for (; next < top + rows; next++) {
        if (next < 0 || next >= in_h) {
          fill(ring + next_slot, shape.columns, shape.rows, outside);
        } else if (next >= top) {
          const int8_t *row = from + (uint32_t)next * in_row;
          entry_t *at = span.first + next_slot;
          if (!tile.together) {
            gather(layer, &tile, row - tile.at[0], words);
            row = words;
          }
          if (span.pairs) split(at, row, in_stride, span.pairs, 2 * in_stride, column_bytes);
          if (span.half) {
            row += span.pairs * 2 * in_stride;
            at += span.pairs * shape.rows;
            for (uint32_t c = 0; c < 4; c++) at->pairs[2 * c] = row[c];
          }
        }
        if (++next_slot == shape.rows) next_slot = 0;
      }
      if (i && i < turns) turn(shape, windows, slot, windows + (turned - windows));
      int8_t *pixel = tile.together ? to + o : held;
      for (uint32_t phase = 0; phase < count; phase++) {
        jobs[phase].y = pixel + phase * out_stride;
        jobs[phase].w = turned + phase * shape.padded;
        jobs[phase].w_end = jobs[phase].w + shape.padded;
      }
      make(jobs, count);
      if (!tile.together) {
        dnnc_smlad_clamp(layer->lo, layer->hi, held, 4 * out_w);
        scatter(layer, &tile, held, to);
      }
      turned += shape.phases * shape.padded;
      if (turned == turned_end) turned = windows;
      for (slot += (uint32_t)stride_h; slot >= shape.rows;) slot -= shape.rows;
    }
  }
  if (!layer->channels) dnnc_smlad_clamp(layer->lo, layer->hi, y, out_h * out_row);
}
