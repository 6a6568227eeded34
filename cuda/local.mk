# The CUDA device is part of libsd.a. nvcc makes its objects, which need no C++ runtime, so that cc links them.
sources += \
	%D%/engine.c %D%/engine.h \
	%D%/gpu.h \
	%D%/grid.c %D%/grid.h \
	%D%/job_slice.c %D%/job_slice.h \
	%D%/strided.c %D%/strided.h
if HAVE_CUDA
libsd_a_SOURCES += %D%/device_cuda.cu
else
libsd_a_SOURCES += src/move/device_cuda_absent.c
endif
EXTRA_DIST += %D%/kernel.cuh

# Machine code for each generation that this nvcc knows, and PTX for those to come; make CUDA_ARCH=native is quicker to build.
CUDA_ARCH = all-major
SUFFIXES += .cu
AM_V_NVCC = $(am__v_NVCC_@AM_V@)
am__v_NVCC_ = $(am__v_NVCC_@AM_DEFAULT_V@)
am__v_NVCC_0 = @echo "  NVCC    " $@;
am__v_NVCC_1 =

.cu.o:
	@$(MKDIR_P) $(@D)
	$(AM_V_NVCC)$(NVCC) -O3 -arch=$(CUDA_ARCH) -I$(top_srcdir)/src \
		-Xcompiler -fno-exceptions,-fno-rtti,-fno-threadsafe-statics $(NVCCFLAGS) -c -o $@ $<

# nvcc does not tell automake what a file includes.
%D%/device_cuda.o: %D%/engine.h %D%/gpu.h %D%/grid.h %D%/kernel.cuh src/base/dtype.h src/base/error.h src/move/convert.h src/move/device.h src/move/move.h \
	src/move/transpose.h
