/* Loads and stores of integers at any address: one instruction each, which byte by byte is not
 * always (gcc 12 joins the bytes of only some of them). */
#ifndef WALSTREAM_BUFFER_H
#define WALSTREAM_BUFFER_H

#include <Python.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
#define WALSTREAM_LITTLE16(v) __builtin_bswap16(v)
#define WALSTREAM_LITTLE32(v) __builtin_bswap32(v)
#define WALSTREAM_LITTLE64(v) __builtin_bswap64(v)
#else
#define WALSTREAM_LITTLE16(v) (v)
#define WALSTREAM_LITTLE32(v) (v)
#define WALSTREAM_LITTLE64(v) (v)
#endif

static inline uint32_t walstream_u16(const unsigned char *p, ptrdiff_t at)
{
    uint16_t v;
    memcpy(&v, p + at, 2);
    return WALSTREAM_LITTLE16(v);
}

static inline uint32_t walstream_u32(const unsigned char *p, ptrdiff_t at)
{
    uint32_t v;
    memcpy(&v, p + at, 4);
    return WALSTREAM_LITTLE32(v);
}

static inline uint64_t walstream_u64(const unsigned char *p, ptrdiff_t at)
{
    uint64_t v;
    memcpy(&v, p + at, 8);
    return WALSTREAM_LITTLE64(v);
}

static inline void walstream_put16(unsigned char *p, ptrdiff_t at, uint32_t value)
{
    uint16_t v = WALSTREAM_LITTLE16((uint16_t)value);
    memcpy(p + at, &v, 2);
}

static inline void walstream_put32(unsigned char *p, ptrdiff_t at, uint32_t value)
{
    uint32_t v = WALSTREAM_LITTLE32(value);
    memcpy(p + at, &v, 4);
}

/* Where the items of a contiguous buffer lie whose format is `format` ("B": bytes); NULL with an
 * exception for anything else. The buffer is not locked: whoever asks holds `data` and does not
 * resize it. */
static inline void *walstream_buffer(PyObject *data, char format, int flags)
{
    static char empty[8];
    Py_buffer view;
    void *found;
    if (PyObject_GetBuffer(data, &view, PyBUF_ND | PyBUF_FORMAT | flags) < 0)
        return NULL;
    found = view.buf == NULL ? empty : view.buf;
    if (view.ndim != 1 || view.format[0] != format || view.format[1] != 0) {
        PyErr_Format(PyExc_ValueError, "buffer: expected one dimension of format '%c', got %d of '%s'",
                     format, view.ndim, view.format);
        found = NULL;
    }
    PyBuffer_Release(&view);
    return found;
}

static inline const unsigned char *walstream_bytes_of(PyObject *data)
{
    return (const unsigned char *)walstream_buffer(data, 'B', 0);
}

static inline unsigned char *walstream_writable_of(PyObject *data)
{
    return (unsigned char *)walstream_buffer(data, 'B', PyBUF_WRITABLE);
}

static inline const int *walstream_ints_of(PyObject *data)
{
    return (const int *)walstream_buffer(data, 'i', 0);
}

static inline void walstream_put64(unsigned char *p, ptrdiff_t at, uint64_t value)
{
    uint64_t v = WALSTREAM_LITTLE64(value);
    memcpy(p + at, &v, 8);
}

#endif
