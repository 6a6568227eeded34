sources += \
	%D%/checksum.c %D%/checksum.h \
	%D%/concat.c %D%/concat.h \
	%D%/counting.c %D%/counting.h \
	%D%/driver.c %D%/driver.h \
	%D%/equal.c %D%/equal.h \
	%D%/extent.c %D%/extent.h \
	%D%/identity.c %D%/identity.h \
	%D%/planned.c %D%/planned.h \
	%D%/rest.c %D%/rest.h \
	%D%/sink.h \
	%D%/source.h \
	%D%/spool.c %D%/spool.h \
	%D%/spooled.c %D%/spooled.h \
	%D%/tap.c %D%/tap.h \
	%D%/view.c %D%/view.h \
	%D%/window.c %D%/window.h
