#include <stdio.h>
#include <string.h>
#include "contrast.h" // what is judged
union { double real; unsigned long long bits; } y;
double x[1 << 20], g[1 << 20], dt; // query, positive_key, negative_keys, temperature one after the other; gradients
char verb[99], id[99], dtype[99], name[9][99];
void tell(double z) { y.real = strcmp(dtype, "float32") ? z : (float)z, printf(" %llx", y.bits); }
int main(void) {
    for (int count, axes, length, d = 1, n[9], end; scanf("%98s", verb) == 1; puts(""), fflush(stdout)) {
        if (!strcmp(verb, "hello") && printf("hello 3 arguments 4 query positive_key negative_keys temperature "
                                             "dtypes 2 float64 float32 readings 2 in-batch in-batch+shared")) continue;
        for (scanf("%98s %*s %98s %d", id, dtype, &count); count--;) scanf("%*s %*s"); // words: all as usual
        scanf("%d", &count), end = 0;
        for (int a = 0, i = 0; a < count; d = a++ ? d : length) {
            for (scanf("%98s %*s %d", name[a], &axes), n[a] = 1; axes--; n[a] *= length) scanf("%d", &length);
            for (end += n[a]; i < end; i++) scanf("%llx", &y.bits), x[i] = y.real;
        }
        end -= 2, count -= 2; // the last two are temperature and in_batch_negatives
        double loss = contrast(x, x + n[0], n[0] / d, (end - n[0]) / d, d, x[end], g, g + n[0], &dt);
        printf("%s ok %d loss %s 0", id, count + 2, dtype), tell(loss), printf(" temperature %s 0", dtype), tell(dt);
        for (int a = 0, i = 0; a < count; a++)
            for (printf(" %s %s 2 %d %d", name[a], dtype, n[a] / d, d), n[a] += i; i < n[a]; i++) tell(g[i]);
    }
}
