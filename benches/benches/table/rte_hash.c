/* The peer of the table bench: DPDK's rte_hash, bulk look-up, then a touch of the 64-byte record found.
 *
 * Usage: rte_hash SESSIONS. Reads one word per line and answers with nanoseconds of CPU per operation:
 * insert | hit | miss | hit-plain (records not asked for ahead) | expire | delete | quit.
 * The first line it prints says how the table was made. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_hash.h>
#include <rte_hash_crc.h>
#include <rte_malloc.h>
#include <rte_prefetch.h>
#include <rte_version.h>

#define BURST 64 /* RTE_HASH_LOOKUP_BULK_MAX */
#define PASS (1u << 21)

struct key {
	uint32_t lo, hi;
	uint16_t lo_port, hi_port;
	uint32_t proto_vlans;
};

struct record {
	struct key key;
	uint64_t packets, expires;
	uint8_t rest[32];
} __rte_cache_aligned;

static uint32_t sessions;
static struct rte_hash *table;
static struct record *records;
static uint32_t at;

/* As benches/src/packets.rs. */
static struct key flow(uint32_t number)
{
	struct key key = {
		.lo = __builtin_bswap32(0x0a000000u | number >> 8),
		.hi = __builtin_bswap32(0xc0000209u),
		.lo_port = 1024 + (number & 0xff),
		.hi_port = 443,
		.proto_vlans = 6u << 24,
	};
	return key;
}

static void die(const char *what)
{
	fprintf(stderr, "rte_hash: %s: %s\n", what, rte_strerror(rte_errno));
	exit(1);
}

static double cpu_ns(void)
{
	struct timespec now;
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
	return now.tv_sec * 1e9 + now.tv_nsec;
}

/* A permutation of the sessions' numbers, as benches/table/workload.rs. */
static inline uint32_t shuffled(uint32_t place)
{
	uint32_t mask = sessions - 1, half = __builtin_ctz(sessions) / 2;
	uint32_t number = place * 0x9e3779b1u & mask;
	number ^= number >> half;
	number = number * 0x85ebca6bu & mask;
	number ^= number >> half;
	return number * 0xc2b2ae35u & mask;
}

static double insert_all(void)
{
	double begin = cpu_ns();
	for (uint32_t i = 0; i < sessions; i++) {
		struct key key = flow(i);
		int32_t place = rte_hash_add_key(table, &key);
		if (place < 0)
			die("no room although the table has more places than sessions");
		records[place].key = key;
		records[place].expires = 1;
	}
	return (cpu_ns() - begin) / sessions;
}

static double delete_all(void)
{
	double begin = cpu_ns();
	for (uint32_t i = 0; i < sessions; i++) {
		struct key key = flow(shuffled(i));
		if (rte_hash_del_key(table, &key) < 0)
			die("a session is gone");
	}
	return (cpu_ns() - begin) / sessions;
}

/* rte_hash has no timers: a walk looks at every session. */
static double expire_all(void)
{
	double begin = cpu_ns();
	const void *key;
	void *data;
	uint32_t next = 0, gone = 0;
	int32_t place;
	while ((place = rte_hash_iterate(table, &key, &data, &next)) >= 0)
		if (records[place].expires <= 1 && rte_hash_del_key(table, key) >= 0)
			gone++;
	if (gone != sessions)
		die("not all expired");
	return (cpu_ns() - begin) / sessions;
}

static double look_up(uint32_t first, int ahead, int expect)
{
	struct key keys[BURST];
	const void *burst[BURST];
	int32_t places[BURST];
	uint64_t found = 0;
	for (int i = 0; i < BURST; i++)
		burst[i] = &keys[i];
	double begin = cpu_ns();
	for (uint32_t done = 0; done < PASS; done += BURST) {
		for (int i = 0; i < BURST; i++)
			keys[i] = flow(first + shuffled(at++));
		rte_hash_lookup_bulk(table, burst, BURST, places);
		if (ahead)
			for (int i = 0; i < BURST; i++)
				if (places[i] >= 0)
					rte_prefetch0(&records[places[i]]);
		for (int i = 0; i < BURST; i++)
			if (places[i] >= 0) {
				records[places[i]].packets++;
				found++;
			}
	}
	double ns = (cpu_ns() - begin) / PASS;
	if (found != (expect ? PASS : 0))
		die("wrong number of sessions found");
	return ns;
}

int main(int argc, char **argv)
{
	if (argc != 2)
		return 2;
	sessions = strtoul(argv[1], NULL, 0);
	const char *pages = "2-MiB pages";
	char memory[16];
	snprintf(memory, sizeof memory, "%u", 256 + sessions / 1024);
	char *huge[] = { "rte_hash", "--in-memory", "--no-pci", "--no-telemetry", "--log-level=1", "-l", "0" };
	char *plain[] = { "rte_hash", "--no-huge", "-m", memory, "--no-pci", "--no-telemetry", "--log-level=1" };
	if (getenv("SAMEPATH_BENCH_NO_HUGE")) {
		pages = "4-KiB pages";
		if (rte_eal_init(7, plain) < 0)
			die("EAL");
	} else if (rte_eal_init(7, huge) < 0) {
		die("EAL on huge pages");
	}
	struct rte_hash_parameters parameters = {
		.name = "sessions",
		.entries = (uint32_t)((uint64_t)sessions * 5 / 4),
		.key_len = sizeof(struct key),
		.hash_func = rte_hash_crc,
	};
	table = rte_hash_create(&parameters);
	if (!table)
		die("rte_hash_create");
	records = rte_zmalloc(NULL, sizeof *records * (parameters.entries + 1ull), 64);
	if (!records)
		die("memory");
	printf("DPDK %s rte_hash, CRC, %u entries, %s\n", rte_version() + 5, parameters.entries, pages);
	fflush(stdout);
	char word[16];
	while (scanf("%15s", word) == 1) {
		double ns = 0;
		if (!strcmp(word, "insert"))
			ns = insert_all();
		else if (!strcmp(word, "delete"))
			ns = delete_all();
		else if (!strcmp(word, "expire"))
			ns = expire_all();
		else if (!strcmp(word, "hit"))
			ns = look_up(0, 1, 1);
		else if (!strcmp(word, "hit-plain"))
			ns = look_up(0, 0, 1);
		else if (!strcmp(word, "miss"))
			ns = look_up(sessions, 1, 0);
		else
			break;
		printf("%f\n", ns);
		fflush(stdout);
	}
	return 0;
}
