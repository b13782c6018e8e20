/* What the generated binding includes; cffi copies this file to its top. */
#include "xmc.h"
