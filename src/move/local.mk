libsd_a_SOURCES += \
	%D%/compose.c %D%/compose.h \
	%D%/cover.c %D%/cover.h \
	%D%/move.c %D%/move.h
