/* For an emulator that calls the model itself: nothing to do after start-up. */
#include "harness_board.h"

int board_main(void) { return 0; }
