libsd_a_SOURCES += %D%/move.c %D%/move.h
