sources += \
	%D%/frame.c %D%/frame.h \
	%D%/reader.c \
	%D%/stream.h \
	%D%/writer.c
