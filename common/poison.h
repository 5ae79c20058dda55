/* Force-included before every source file: the unbounded string functions do not compile here.
 * The headers that declare them come first, so that their own text is not poisoned. */
#pragma once

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#undef strcpy
#undef strcat
#undef sprintf
#undef vsprintf
#pragma GCC poison strcpy strcat sprintf vsprintf gets atoi atol strtok
