// SPDX-License-Identifier: Apache-2.0
// place_test.c - where written files go: in place of others, or into what is there.
#if defined(__linux__) && !defined(_GNU_SOURCE)
#define _GNU_SOURCE // unshare
#endif
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#if defined(__linux__)
#include <sched.h>
#include <sys/mount.h>
#endif

#include "files/files.h"
#include "program/programs.h"

static void save_one(const char *path) {
    emlx_error err;
    emlx_block *b = new_block();
    output(b, NULL, input(b, "x", EMLX_F32, 0));
    assert_ok(emlx_block_save(b, path, &err), err);
    emlx_block_release(b);
}

// A folder with a file of that mode and one byte in it; names are in these.
static char folder[128], inside[192];

static void make_folder(mode_t folder_mode, mode_t mode) {
    snprintf(folder, sizeof folder, "%s.folder", test_path);
    snprintf(inside, sizeof inside, "%s/file", folder);
    assert_int_equal(mkdir(folder, 0700), 0);
    int fd = open(inside, O_WRONLY | O_CREAT | O_EXCL, 0600);
    assert_int_equal(write(fd, "x", 1), 1);
    assert_int_equal(fchmod(fd, mode), 0);
    close(fd);
    assert_int_equal(chmod(folder, folder_mode), 0);
}

static void remove_folder(void) {
    unlink(inside);
    // Nothing else has been left behind.
    assert_int_equal(rmdir(folder), 0);
}

static struct stat state_of(const char *path) {
    struct stat info;
    assert_int_equal(lstat(path, &info), 0);
    return info;
}

static void a_replaced_file_keeps_its_mode_and_owner(void **state) {
    (void)state;
    static const mode_t modes[] = {0600, 0640, 0664, 0755, 0444};
    for (size_t i = 0; i < sizeof modes / sizeof *modes; i++) {
        make_folder(0700, modes[i]);
        bool root = geteuid() == 0;
        if (root) assert_int_equal(chown(inside, 12345, 54321), 0);
        ino_t old = state_of(inside).st_ino;
        save_one(inside);
        struct stat info = state_of(inside);
        assert_true(info.st_size > 1 && info.st_ino != old);
        assert_int_equal(info.st_mode & 07777, modes[i]);
        if (root) assert_true(info.st_uid == 12345 && info.st_gid == 54321);
        remove_folder();
    }
    // A new file is what the process makes of new files.
    mode_t mask = umask(027);
    unlink(test_path);
    save_one(test_path);
    umask(mask);
    assert_int_equal(state_of(test_path).st_mode & 07777, 0640);
}

// Two names of a file remain names of one.
static void other_names_see_what_is_written(void **state) {
    (void)state;
    make_folder(0700, 0644);
    char other[256];
    snprintf(other, sizeof other, "%s.other", inside);
    assert_int_equal(link(inside, other), 0);
    save_one(inside);
    assert_int_equal(state_of(other).st_ino, state_of(inside).st_ino);
    assert_true(state_of(other).st_size > 1);
    unlink(other);
    remove_folder();
}

// As root everything may be replaced, so these go on as somebody else.
static void saved_by_nobody(mode_t folder_mode, mode_t mode, uid_t owner) {
    bool root = geteuid() == 0;
    if (!root && owner != geteuid()) return;
    make_folder(folder_mode, mode);
    if (root) assert_int_equal(chown(inside, owner, owner), 0);
    ino_t old = state_of(inside).st_ino;
    if (root) assert_int_equal(seteuid(65534), 0);
    save_one(inside);
    if (root) assert_int_equal(seteuid(0), 0);
    assert_int_equal(state_of(inside).st_ino, old);
    assert_true(state_of(inside).st_size > 1);
    assert_int_equal(state_of(inside).st_mode & 07777, mode);
    chmod(folder, 0700);
    remove_folder();
}

static void what_cannot_be_replaced_is_written_to(void **state) {
    (void)state;
    uid_t self = geteuid() == 0 ? 65534 : geteuid();
    saved_by_nobody(0555, 0600, self); // nothing can be made beside it
    saved_by_nobody(0777, 0666, 0);    // a new file cannot have its owner
    saved_by_nobody(01777, 0666, 0);   // nor be put in its place
    saved_by_nobody(0555, 0622, 0);
    // A name that leaves no room for another one beside it.
    make_folder(0700, 0644);
    char lengthy[512];
    snprintf(lengthy, sizeof lengthy, "%s/%0250d", folder, 0);
    save_one(lengthy);
    save_one(lengthy);
    assert_true(state_of(lengthy).st_size > 1);
    unlink(lengthy);
    remove_folder();
}

// Containers have single files mounted into them.
static void a_mounted_file_is_written_to(void **state) {
    (void)state;
#if defined(__linux__)
    make_folder(0700, 0640);
    write_bytes("old", 3);
    pid_t child = fork();
    if (child == 0) {
        if (unshare(CLONE_NEWNS) != 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
            mount(test_path, inside, NULL, MS_BIND, NULL) != 0)
            _exit(77);
        emlx_error err;
        emlx_device *device;
        emlx_tensor *t;
        emlx_shape shape = {1, {3}};
        float numbers[] = {1, 2, 3};
        if (emlx_device_open("cpu", &device, &err) != EMLX_OK ||
            emlx_tensor_from_data(device, EMLX_F32, &shape, numbers, 12, &t, &err) != EMLX_OK ||
            emlx_npy_save(inside, t, &err) != EMLX_OK) {
            print_error("%s\n", err.message);
            _exit(1);
        }
        _exit(0);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    bool mounted = WEXITSTATUS(status) != 77;
    assert_true(!mounted || WEXITSTATUS(status) == 0);
    if (mounted) assert_int_equal(state_of(test_path).st_size, 128 + 12);
    remove_folder();
    if (!mounted) skip();
#endif
}

// What standard output is goes on where it is: a file is not cut off, nor begun anew.
static void standard_output_goes_on(void **state) {
    (void)state;
    write_bytes("head", 4);
    fflush(stdout);
    int saved = dup(STDOUT_FILENO), file = open(test_path, O_WRONLY | O_APPEND);
    dup2(file, STDOUT_FILENO);
    save_one("/dev/stdout");
    ssize_t put = write(STDOUT_FILENO, "tail", 4);
    dup2(saved, STDOUT_FILENO);
    close(saved);
    close(file);
    static char data[4096];
    size_t size = read_bytes(data, sizeof data);
    assert_int_equal(put, 4);
    assert_true(size > 16);
    assert_memory_equal(data, "head", 4);
    assert_memory_equal(data + size - 4, "tail", 4);
}

static void *read_pipe(void *path) {
    static char data[4096];
    int fd = open(path, O_RDONLY);
    size_t size = 0;
    for (ssize_t got; (got = read(fd, data, sizeof data)) > 0;) size += (size_t)got;
    close(fd);
    return (void *)size;
}

static void a_pipe_stays_a_pipe(void **state) {
    (void)state;
    pthread_t reader;
    void *size;
    unlink(test_path);
    assert_int_equal(mkfifo(test_path, 0600), 0);
    assert_int_equal(pthread_create(&reader, NULL, read_pipe, test_path), 0);
    save_one(test_path);
    assert_int_equal(pthread_join(reader, &size), 0);
    assert_true((size_t)size > 8);
    assert_true(S_ISFIFO(state_of(test_path).st_mode));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_mounted_file_is_written_to),
        cmocka_unit_test(a_replaced_file_keeps_its_mode_and_owner),
        cmocka_unit_test(other_names_see_what_is_written),
        cmocka_unit_test(what_cannot_be_replaced_is_written_to),
        cmocka_unit_test(standard_output_goes_on),
        cmocka_unit_test(a_pipe_stays_a_pipe),
    };
    return RUN_WITH_FILE("files/place", tests);
}
