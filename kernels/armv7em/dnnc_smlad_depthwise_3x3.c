/* Depthwise convolution 3x3 without dilation, four channels at a time, by SMLAD: see dnnc_smlad_line.h.
 *
 * The output may lie exactly over the input: the same address and channels, at most as many columns, padding of at
 * most 2 at the top. Of a tile's channels, an input line is widened into the ring before the first output is written
 * that lies on it, and no other tile reads or writes them. Lines are rows, from the top; they are columns, from the
 * left, only where the output has the input's size.
 */
#include "dnnc_smlad_line.h"

/* One direction of the image; steps are bytes between values, tap: between weights. */
typedef struct {
  int32_t in, out, stride, pad;
  uint32_t in_step, out_step, tap;
} axis_t;

#if DNNC_SMLAD_ASM

/* `count` pairs of a line, whose values lie `step` bytes apart, four channels each. */
DNNC_NAKED static void split(dnnc_smlad_entry_t *to DNNC_IN_ASM, const int8_t *from DNNC_IN_ASM,
                             uint32_t step DNNC_IN_ASM, uint32_t count DNNC_IN_ASM) {
  __asm__ volatile(
      "push {r4-r7}\n"
      "1:\n"
      "ldr r6, [r1]\n"
      "ldr r7, [r1, r2]\n"
      "add r1, r1, r2, lsl #1\n"
      "pkhbt r5, r6, r7, lsl #16\n"
      "pkhtb r7, r7, r6, asr #16\n"
      "sxtb16 r4, r5\n"
      "sxtb16 r5, r5, ror #8\n"
      "sxtb16 r6, r7\n"
      "sxtb16 r7, r7, ror #8\n"
      "stm r0, {r4-r7}\n"
      "add r0, r0, #48\n"
      "subs r3, r3, #1\n"
      "bne 1b\n"
      "pop {r4-r7}\n"
      "bx lr\n");
}

#else

static void split(dnnc_smlad_entry_t *to, const int8_t *from, uint32_t step, uint32_t count) {
  for (; count; count--, to += 3, from += 2 * step) {
    for (uint32_t c = 0; c < 4; c++) {
      to->pairs[2 * c] = from[c];
      to->pairs[2 * c + 1] = from[step + c];
    }
  }
}

#endif

static void fill(dnnc_smlad_entry_t *to, uint32_t count, uint32_t step, int16_t value) {
  dnnc_smlad_entry_t entry;
  for (uint32_t c = 0; c < 8; c++) entry.pairs[c] = value;
  for (; count; count--, to += step) *to = entry;
}

/* The first values of pairs (half 0), or the second ones. */
static void put_half(dnnc_smlad_entry_t *to, uint32_t half, const int8_t *from) {
  for (uint32_t c = 0; c < 4; c++) to->pairs[2 * c + half] = from[c];
}

/* An input line to the slot at `ring`, `pairs` long; what lies beyond its ends is left as it is. */
static void widen(dnnc_smlad_entry_t *ring, uint32_t pairs, const axis_t *along, const int8_t *from, uint32_t step) {
  uint32_t begin = (uint32_t)along->pad / 2, left = (uint32_t)along->in;
  if (begin >= pairs) return;
  ring += begin * 3;
  pairs -= begin;
  if (along->pad % 2) {
    put_half(ring, 1, from);
    ring += 3;
    from += step;
    pairs--;
    left--;
  }
  uint32_t whole = left / 2 < pairs ? left / 2 : pairs;
  if (whole) split(ring, from, step, whole);
  if (left % 2 && whole < pairs) put_half(ring + whole * 3, 0, from + whole * 2 * step);
}

/* A line of scattered channels, four bytes a value. */
static void gather(const axis_t *along, const dnnc_smlad_line_t *line, const dnnc_smlad_channel_t *channels,
                   const int8_t *x, int8_t *words) {
  for (int32_t j = along->in; j; j--, x += along->in_step, words += 4) {
    for (uint32_t c = 0; c < line->count; c++) words[c] = x[channels[c].at];
  }
}

/* Where other calls make the channels between: the outputs of a line to lo..hi. */
static void clamp_line(const dnnc_linear_t *layer, const dnnc_smlad_line_t *line, uint32_t outputs) {
  int32_t lo = layer->lo, hi = layer->hi;
  if (lo <= -128 && hi >= 127) return;
  for (uint32_t c = 0; c < line->count; c++) {
    int8_t *y = line->y + line->channel[c].at;
    for (uint32_t j = outputs; j; j--, y += line->step) *y = (int8_t)dnnc_clamp(*y, lo, hi);
  }
}

/* The channels of a tile. */
static void place(const dnnc_linear_t *layer, uint32_t tile, uint32_t count, const int8_t *taps, const axis_t *along,
                  const axis_t *across, dnnc_smlad_channel_t *channel) {
  int32_t factor = 1 << layer->left_shift, bias[4], multiplier[4];
  dnnc_smlad_tables(layer->bias, layer->scales, tile, bias, multiplier);
  for (uint32_t c = 0; c < count; c++, channel++, taps++) {
    channel->bias = (int32_t)((uint32_t)bias[c] << layer->left_shift);
    channel->multiplier = multiplier[c];
    channel->at = layer->channels ? layer->channels[tile + c] : tile + c;
    for (uint32_t r = 0; r < 3; r++) {
      const int8_t *tap = taps + r * across->tap;
      int16_t *to = channel->turns[r];
      to[0] = (int16_t)(tap[0] * factor);
      to[1] = to[3] = (int16_t)(tap[along->tap] * factor);
      to[2] = (int16_t)(tap[2 * along->tap] * factor);
    }
    for (uint32_t r = 0; r < 2; r++) {
      for (uint32_t i = 0; i < 4; i++) channel->turns[3 + r][i] = channel->turns[r][i];
    }
  }
}

/* The lines of a tile; `from` and line->y lie at its first channel. */
static void make_lines(const dnnc_linear_t *layer, dnnc_smlad_line_t *line, dnnc_smlad_channel_t *channels,
                       dnnc_smlad_entry_t *ring, uint32_t pairs, const axis_t *along, const axis_t *across,
                       const int8_t *x, int8_t *y, int8_t *words, dnnc_smlad_make_t *make) {
  int32_t top = -across->pad, next = top; /* the next input line to be widened */
  uint32_t slot = 0, next_slot = 0;
  int together = line->count == 4 && !layer->channels;
  for (int32_t i = across->out; i; i--, top += across->stride, y += across->out_step) {
    for (; next < top + 3; next++) {
      dnnc_smlad_entry_t *to = ring + next_slot;
      if (next < 0 || next >= across->in) {
        fill(to, pairs, 3, layer->in_zero);
      } else if (next >= top) {
        const int8_t *from = x + (uint32_t)next * across->in_step;
        uint32_t step = along->in_step;
        if (together) {
          from += channels->at;
        } else {
          gather(along, line, channels, from, words);
          from = words;
          step = 4;
        }
        widen(to, pairs, along, from, step);
      }
      next_slot = next_slot == 2 ? 0 : next_slot + 1;
    }
    line->channel = channels;
    line->turn = slot ? (3 - slot) * 8 : 0;
    line->y = y;
    make(line);
    if (layer->channels) clamp_line(layer, line, (uint32_t)along->out);
    for (slot += (uint32_t)across->stride; slot >= 3;) slot -= 3;
  }
}

/* The scratch: the taps | the channels of a tile | the ring | four bytes a value of a line of scattered channels. */
void dnnc_smlad_depthwise_3x3(const dnnc_linear_t *layer, const int8_t *x, int8_t *y, void *scratch,
                              dnnc_smlad_unpack_t *unpack, uint32_t taps_bytes, dnnc_smlad_make_t *make) {
  axis_t along = {layer->in_w, layer->out_w, layer->stride_w, layer->pad_left, layer->in_stride, layer->out_stride, 4};
  axis_t across = {layer->in_h, layer->out_h, layer->stride_h, layer->pad_top, 0, 0, 12};
  across.in_step = (uint32_t)along.in * along.in_step;
  across.out_step = (uint32_t)along.out * along.out_step;
  if (along.in < across.in && along.in == along.out && across.in == across.out && along.stride * across.stride == 1) {
    axis_t rows = along;
    along = across;
    across = rows;
  }
  int8_t *taps = scratch;
  dnnc_smlad_channel_t *channels = (dnnc_smlad_channel_t *)(void *)(taps + taps_bytes);
  dnnc_smlad_entry_t *ring = (dnnc_smlad_entry_t *)(void *)(channels + 4);
  uint32_t pairs = (uint32_t)((along.out - 1) * along.stride) / 2 + 2;
  int8_t *words = (int8_t *)(ring + pairs * 3);
  const uint32_t *packed = layer->weights;
  dnnc_smlad_line_t line = {0, 0, layer->out_zero, along.out_step, 0, 0, ring, channels, 0, y, 0, ring};
  line.bodies = (uint32_t)(along.out - 1);
  if (along.stride == 1) {
    line.single = along.out & 1;
    line.bodies /= 2;
  }
  line.end += line.bodies * 3;
  fill(ring, pairs * 3, 1, layer->in_zero);
  for (uint32_t o = 0; o < layer->out_c; o += 4) {
    line.count = layer->out_c - o < 4u ? layer->out_c - o : 4u;
    packed = unpack(taps, packed, 9);
    place(layer, o, line.count, taps, &along, &across, channels);
    make_lines(layer, &line, channels, ring, pairs, &along, &across, x, y, words, make);
  }
  if (!layer->channels) {
    dnnc_smlad_clamp(layer->lo, layer->hi, y, layer->out_h * (uint32_t)layer->out_w * layer->out_stride);
  }
}
