// No sample op includes this: it must not count as a source of any.
#pragma once
