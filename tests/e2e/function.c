/* A function in C, as small as one can be: it answers every request alike. */
#include <arpa/inet.h>
#include <stdlib.h>
#include <unistd.h>

static const char answer[] = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\nConnection: close\r\n\r\nfrom C";

int main(void) {
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(atoi(getenv("PORT")))};
  int one = 1, listener = socket(AF_INET, SOCK_STREAM, 0);
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 64)) return 1;
  for (;;) {
    char request[4096];
    int client = accept(listener, 0, 0);
    if (read(client, request, sizeof request) > 0) write(client, answer, sizeof answer - 1);
    close(client);
  }
}
