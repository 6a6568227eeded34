# SD_CUDA: --with-cuda=yes|no|auto|DIR. Where nvcc is found, the kernels are compiled and linked with the static CUDA
# runtime, so that one binary runs with a driver and without. Sets HAVE_CUDA (conditional and define), NVCC, CUDA_LIBS.
AC_DEFUN([SD_CUDA], [
AC_ARG_WITH([cuda],
  [AS_HELP_STRING([--with-cuda=yes|no|auto|DIR], [build the CUDA device (auto: where nvcc is found)])],
  [], [with_cuda=auto])
AC_ARG_VAR([NVCC], [the CUDA compiler])
AC_ARG_VAR([NVCCFLAGS], [flags for the CUDA compiler])
have_cuda=no
cuda_says="no (--with-cuda=no)"
AS_IF([test "$with_cuda" != no], [
  cuda_path="$PATH:/usr/local/cuda/bin"
  AS_CASE([$with_cuda], [yes|auto], [], [cuda_path="$with_cuda/bin"])
  AC_PATH_PROG([NVCC], [nvcc], [], [$cuda_path])
  cuda_says="no (nvcc was not found; --with-cuda=DIR names its place)"
  AS_IF([test -n "$NVCC"], [
    cuda_home=`dirname "\`dirname "$NVCC"\`"`
    CUDA_LIBS="-L$cuda_home/lib64 -lcudart_static -lpthread -ldl -lrt"
    save_LIBS=$LIBS
    LIBS="$CUDA_LIBS $LIBS"
    AC_CHECK_FUNC([cudaGetDeviceCount], [have_cuda=yes], [CUDA_LIBS=])
    LIBS=$save_LIBS
    AS_IF([test $have_cuda = yes], [cuda_says="yes ($NVCC)"],
      [cuda_says="no ($NVCC is there, but libcudart_static does not link)"])
  ])
  AS_IF([test $have_cuda = no && test "$with_cuda" != auto],
    [AC_MSG_ERROR([--with-cuda=$with_cuda: $cuda_says])])
])
AS_IF([test $have_cuda = yes], [AC_DEFINE([HAVE_CUDA], [1], [Define to 1 if the CUDA device is built.])])
AM_CONDITIONAL([HAVE_CUDA], [test $have_cuda = yes])
AC_SUBST([CUDA_LIBS])
])
