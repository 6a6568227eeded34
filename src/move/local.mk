sources += \
	%D%/box.c %D%/box.h \
	%D%/compare.c %D%/compare.h \
	%D%/compose.c %D%/compose.h \
	%D%/convert.c %D%/convert.h %D%/convert_simd.h \
	%D%/coverage.c %D%/coverage.h \
	%D%/device.h \
	%D%/device_cpu.c \
	%D%/kernels.h \
	%D%/move.c %D%/move.h \
	%D%/numbers.c %D%/numbers.h \
	%D%/tile.c %D%/tile.h \
	%D%/decode.c %D%/decode.h \
	%D%/quantise.c %D%/quantise.h \
	%D%/statistics.c %D%/statistics.h %D%/statistics_avx2.c %D%/statistics_bytes.h %D%/statistics_simd.h \
	%D%/transpose.c %D%/transpose.h \
	%D%/transpose_avx2.c \
	%D%/transpose_avx512.c \
	%D%/transpose_plain.c \
	%D%/transpose_simd.h \
	%D%/transpose_v128.c
