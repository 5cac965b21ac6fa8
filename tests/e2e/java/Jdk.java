import java.io.ByteArrayInputStream;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublisher;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse;
import java.net.http.HttpResponse.BodyHandlers;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CompletableFuture;

/**
 * The JDK's own client as it comes, which is Spring's RestClient where nothing else is installed: in the clear it offers
 * HTTP/2 with every request. Arguments: base address, desk's address. Prints one line for each step.
 */
public final class Jdk {
    public static void main(String[] args) throws Exception {
        HttpClient http = HttpClient.newHttpClient();
        String body = "{\"initial_image_url\": \"" + args[1] + "\"}";

        for (int turn = 0; turn < 3; turn++) {
            say("classify", http.send(classify(args[0], BodyPublishers.ofString(body)), BodyHandlers.ofString()));
        }
        BodyPublisher ofUnknownLength = BodyPublishers.ofInputStream(() -> new ByteArrayInputStream(body.getBytes()));
        say("chunked", http.send(classify(args[0], ofUnknownLength), BodyHandlers.ofString()));

        List<CompletableFuture<HttpResponse<String>>> asked = new ArrayList<>();
        for (int one = 0; one < 8; one++) {
            asked.add(http.sendAsync(classify(args[0], BodyPublishers.ofString(body)), BodyHandlers.ofString()));
        }
        for (CompletableFuture<HttpResponse<String>> answer : asked) {
            say("at once", answer.get());
        }
        say("info", http.send(request(args[0] + "/info").GET().build(), BodyHandlers.ofString()));
        say("nothing", http.send(classify(args[0], BodyPublishers.noBody()), BodyHandlers.ofString()));
    }

    private static HttpRequest classify(String base, BodyPublisher body) {
        return request(base + "/classify").header("Content-Type", "application/json").POST(body).build();
    }

    private static HttpRequest.Builder request(String url) {
        return HttpRequest.newBuilder(URI.create(url)).timeout(Duration.ofSeconds(60));
    }

    private static void say(String what, HttpResponse<String> answer) {
        String desk = answer.body().contains("\"classify\":true") ? " desk" : "";
        System.out.println(what + " " + answer.statusCode() + desk);
    }
}
