/* CRC-32C (Castagnoli, reflected 0x82F63B78) as PostgreSQL keeps it in records and pages.
 *
 * walstream_crc32c(value, p, length) continues `value`, the CRC of what came before (0 at the
 * start), as the `crc32c` package does. On x86-64 with SSE 4.2 and PCLMULQDQ, found out at load
 * time, it runs the crc32 instruction over three lanes at once: the instruction takes three
 * cycles but a new one can start in each. The lanes are joined by one carry-less multiplication
 * each. Elsewhere it takes eight bytes a step from tables.
 */
#ifndef WALSTREAM_CRC32C_H
#define WALSTREAM_CRC32C_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define WALSTREAM_CRC_POLY 0x82F63B78u
/* Words of eight bytes in the longest lane, and the shortest input that pays for lanes. */
#define WALSTREAM_CRC_WORDS 64
#define WALSTREAM_CRC_LEAST 72

static uint32_t walstream_crc_table[8][256];
static int walstream_crc_ready = 0;

static uint32_t walstream_crc_software(uint32_t crc, const unsigned char *p, size_t length)
{
    while (length >= 8) {
        uint32_t low = crc ^ ((uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 |
                              (uint32_t)p[3] << 24);
        crc = walstream_crc_table[7][low & 0xFF] ^ walstream_crc_table[6][(low >> 8) & 0xFF] ^
              walstream_crc_table[5][(low >> 16) & 0xFF] ^ walstream_crc_table[4][low >> 24] ^
              walstream_crc_table[3][p[4]] ^ walstream_crc_table[2][p[5]] ^
              walstream_crc_table[1][p[6]] ^ walstream_crc_table[0][p[7]];
        p += 8;
        length -= 8;
    }
    while (length-- > 0)
        crc = crc >> 8 ^ walstream_crc_table[0][(crc ^ *p++) & 0xFF];
    return crc;
}

#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
#define WALSTREAM_CRC_X86 1
#include <immintrin.h>

static int walstream_crc_hardware = 0;
/* Multipliers that move a CRC over one and two lanes of so many words. */
static uint64_t walstream_crc_one[WALSTREAM_CRC_WORDS + 1];
static uint64_t walstream_crc_two[WALSTREAM_CRC_WORDS + 1];

/* x^(8 * bytes - 33) modulo the polynomial, reflected. The 33 makes up for the bit that a
 * reflected carry-less product is off by and for the 32 that the crc32 instruction multiplies. */
static uint64_t walstream_crc_multiplier(size_t bytes)
{
    uint32_t value = 0x80000000u;
    size_t i;
    for (i = 0; i < 8 * bytes - 33; i++)
        value = value >> 1 ^ (value & 1 ? WALSTREAM_CRC_POLY : 0);
    return value;
}

__attribute__((target("sse4.2,pclmul"))) static inline uint64_t
walstream_crc_over(uint64_t crc, uint64_t multiplier)
{
    __m128i product = _mm_clmulepi64_si128(_mm_cvtsi64_si128((long long)crc),
                                           _mm_cvtsi64_si128((long long)multiplier), 0);
    return _mm_crc32_u64(0, (uint64_t)_mm_cvtsi128_si64(product));
}

__attribute__((target("sse4.2,pclmul"))) static inline uint64_t
walstream_crc_lanes(uint64_t crc, const unsigned char *p, size_t lane, uint64_t one, uint64_t two)
{
    uint64_t second = 0, third = 0, a, b, c;
    size_t i;
    for (i = 0; i < lane; i += 8) {
        memcpy(&a, p + i, 8);
        memcpy(&b, p + lane + i, 8);
        memcpy(&c, p + 2 * lane + i, 8);
        crc = _mm_crc32_u64(crc, a);
        second = _mm_crc32_u64(second, b);
        third = _mm_crc32_u64(third, c);
    }
    return walstream_crc_over(crc, two) ^ walstream_crc_over(second, one) ^ third;
}

__attribute__((target("sse4.2,pclmul"))) static uint32_t
walstream_crc_sse42(uint32_t start, const unsigned char *p, size_t length)
{
    uint64_t crc = start, word;
    while (length >= WALSTREAM_CRC_LEAST) {
        size_t words = length / 24;
        if (words > WALSTREAM_CRC_WORDS)
            words = WALSTREAM_CRC_WORDS;
        crc = walstream_crc_lanes(crc, p, 8 * words, walstream_crc_one[words],
                                  walstream_crc_two[words]);
        p += 24 * words;
        length -= 24 * words;
    }
    while (length >= 8) {
        memcpy(&word, p, 8);
        crc = _mm_crc32_u64(crc, word);
        p += 8;
        length -= 8;
    }
    if (length & 4) {
        uint32_t half;
        memcpy(&half, p, 4);
        crc = _mm_crc32_u32((uint32_t)crc, half);
        p += 4;
    }
    if (length & 2) {
        uint16_t quarter;
        memcpy(&quarter, p, 2);
        crc = _mm_crc32_u16((uint32_t)crc, quarter);
        p += 2;
    }
    if (length & 1)
        crc = _mm_crc32_u8((uint32_t)crc, *p);
    return (uint32_t)crc;
}

/* Most records are short, and of every length: no branch here depends on the length modulo 8.
 * Zeros before a message do not change its CRC when the CRC starts at 0, and to start at all ones
 * is to invert the first four bytes instead. So the odd bytes go first, with zeros before them. */
__attribute__((target("sse4.2,pclmul"))) static uint32_t
walstream_crc_record_sse42(const unsigned char *p, size_t total)
{
    const unsigned char *body = p + 24;
    size_t length = total - 24, odd = length & 7, words = length >> 3;
    uint64_t crc, word;
    uint32_t half;
    if (length < 8 || length >= 160)
        crc = walstream_crc_sse42(0xFFFFFFFFu, body, length);
    else {
        memcpy(&word, body, 8);
        word ^= 0xFFFFFFFFu;
        word = word << (32 - 4 * odd) << (32 - 4 * odd);
        crc = _mm_crc32_u64(0, word);
        body += odd;
        memcpy(&word, body, 8);
        crc = _mm_crc32_u64(crc, word ^ (uint64_t)0xFFFFFFFFu >> (8 * odd));
        while (--words > 0) {
            body += 8;
            memcpy(&word, body, 8);
            crc = _mm_crc32_u64(crc, word);
        }
    }
    memcpy(&word, p, 8);
    crc = _mm_crc32_u64(crc, word);
    memcpy(&word, p + 8, 8);
    crc = _mm_crc32_u64(crc, word);
    memcpy(&half, p + 16, 4);
    return ~_mm_crc32_u32((uint32_t)crc, half);
}
#endif

/* Called once when a kernel is loaded, before any other function here. */
static int walstream_crc_prepare(void)
{
    uint32_t i, j;
    for (i = 0; i < 256; i++) {
        uint32_t value = i;
        for (j = 0; j < 8; j++)
            value = value >> 1 ^ (value & 1 ? WALSTREAM_CRC_POLY : 0);
        walstream_crc_table[0][i] = value;
    }
    for (i = 0; i < 256; i++)
        for (j = 1; j < 8; j++)
            walstream_crc_table[j][i] =
                walstream_crc_table[j - 1][i] >> 8 ^
                walstream_crc_table[0][walstream_crc_table[j - 1][i] & 0xFF];
#ifdef WALSTREAM_CRC_X86
    for (i = 1; i <= WALSTREAM_CRC_WORDS; i++) {
        walstream_crc_one[i] = walstream_crc_multiplier(8 * i);
        walstream_crc_two[i] = walstream_crc_multiplier(16 * i);
    }
    walstream_crc_hardware =
        __builtin_cpu_supports("sse4.2") && __builtin_cpu_supports("pclmul");
#endif
    walstream_crc_ready = 1;
    return walstream_crc_ready;
}

static inline uint32_t walstream_crc32c(uint32_t value, const unsigned char *p, ptrdiff_t length)
{
#ifdef WALSTREAM_CRC_X86
    if (walstream_crc_hardware)
        return ~walstream_crc_sse42(~value, p, (size_t)length);
#endif
    return ~walstream_crc_software(~value, p, (size_t)length);
}

/* The CRC of a record of at least 24 bytes: what follows its header, then the header's first 20. */
static inline uint32_t walstream_crc32c_record(const unsigned char *p, ptrdiff_t total)
{
#ifdef WALSTREAM_CRC_X86
    if (walstream_crc_hardware)
        return walstream_crc_record_sse42(p, (size_t)total);
#endif
    return walstream_crc32c(walstream_crc32c(0, p + 24, total - 24), p, 20);
}

/* The table path whatever the processor can do, for the tests. */
static inline uint32_t walstream_crc32c_tables(uint32_t value, const unsigned char *p,
                                               ptrdiff_t length)
{
    return ~walstream_crc_software(~value, p, (size_t)length);
}

#endif
