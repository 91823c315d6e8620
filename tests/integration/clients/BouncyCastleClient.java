// SPDX-License-Identifier: MIT
//
// BouncyCastle's EST client, step by step.
//
// Usage: BouncyCastleClient HOST:PORT ROOT.pem TLS_VERSION
//
// Reads one step from each line of its input, and prints one line for it:
//
//   cacerts LABEL FILE                          -> done 2
//   csrattrs LABEL                              -> done BASE64, or none
//   simpleenroll LABEL NAME KEY PROOF FILE      -> done, held or refused 401
//   simplereenroll LABEL NAME KEY PROOF FILE
//   serverkeygen LABEL NAME KEY PROOF FILE
//   retry FILE                                  the one that was held
//
// LABEL "-" is the default one.  A KEY that is new is made.  PROOF is
// password:USER:PASSWORD, token:TOKEN or certificate:KEY.  FILE gets the
// certificates, and of serverkeygen the private key after them, in PEM.

import java.io.BufferedReader;
import java.io.File;
import java.io.FileInputStream;
import java.io.FileWriter;
import java.io.InputStreamReader;
import java.security.KeyPair;
import java.security.KeyPairGenerator;
import java.security.KeyStore;
import java.security.SecureRandom;
import java.security.Security;
import java.security.cert.CertificateFactory;
import java.security.cert.TrustAnchor;
import java.security.cert.X509Certificate;
import java.security.spec.ECGenParameterSpec;
import java.util.Base64;
import java.util.Collections;
import java.util.HashMap;
import java.util.Map;
import java.util.Set;
import javax.net.ssl.KeyManagerFactory;
import org.bouncycastle.asn1.pkcs.PKCSObjectIdentifiers;
import org.bouncycastle.asn1.x500.X500Name;
import org.bouncycastle.asn1.x509.Extension;
import org.bouncycastle.asn1.x509.ExtensionsGenerator;
import org.bouncycastle.asn1.x509.GeneralName;
import org.bouncycastle.asn1.x509.GeneralNames;
import org.bouncycastle.cert.X509CertificateHolder;
import org.bouncycastle.cert.jcajce.JcaX509CertificateConverter;
import org.bouncycastle.est.CSRRequestResponse;
import org.bouncycastle.est.ESTAuth;
import org.bouncycastle.est.ESTException;
import org.bouncycastle.est.ESTService;
import org.bouncycastle.est.EnrollmentResponse;
import org.bouncycastle.est.jcajce.JcaHttpAuthBuilder;
import org.bouncycastle.est.jcajce.JcaJceUtils;
import org.bouncycastle.est.jcajce.JsseESTServiceBuilder;
import org.bouncycastle.jce.provider.BouncyCastleProvider;
import org.bouncycastle.openssl.jcajce.JcaPEMWriter;
import org.bouncycastle.operator.jcajce.JcaContentSignerBuilder;
import org.bouncycastle.pkcs.PKCS10CertificationRequest;
import org.bouncycastle.pkcs.PKCS10CertificationRequestBuilder;
import org.bouncycastle.pkcs.jcajce.JcaPKCS10CertificationRequestBuilder;

public class BouncyCastleClient {
    static String server;
    static Set<TrustAnchor> anchors;
    static final Map<String, KeyPair> keys = new HashMap<>();
    static final Map<String, X509Certificate> certificates = new HashMap<>();
    static ESTService asked;
    static EnrollmentResponse held;
    static String heldKey;

    public static void main(String[] args) throws Exception {
        Security.addProvider(new BouncyCastleProvider());
        System.setProperty("jdk.tls.client.protocols", "TLSv" + args[2]);
        server = args[0];
        try (FileInputStream in = new FileInputStream(args[1])) {
            anchors = Collections.singleton(new TrustAnchor(
                (X509Certificate) CertificateFactory.getInstance("X.509")
                    .generateCertificate(in), null));
        }
        BufferedReader steps =
            new BufferedReader(new InputStreamReader(System.in));
        for (String line; (line = steps.readLine()) != null;) {
            String told;
            try {
                told = step(line.split(" "));
            } catch (ESTException refused) {
                told = refused.getStatusCode() == 0
                    ? "failed " + refused
                    : "refused " + refused.getStatusCode();
            } catch (Exception failed) {
                told = "failed " + failed;
            }
            System.out.println(told.replace('\n', ' '));
            System.out.flush();
        }
    }

    static String step(String[] words) throws Exception {
        switch (words[0]) {
            case "cacerts":
                X509CertificateHolder[] chain = ESTService.storeToArray(
                    builder(words[1]).build().getCACerts()
                        .getCertificateStore());
                write(words[2], (Object[]) chain);
                return "done " + chain.length;
            case "csrattrs":
                return attributes(
                    builder(words[1]).build().getCSRAttributes());
            case "retry":
                return taken(asked.simpleEnroll(held), heldKey, words[1]);
            default:
                return enroll(words);
        }
    }

    static String attributes(CSRRequestResponse answer) throws Exception {
        if (!answer.hasAttributesResponse()) {
            return "none";
        }
        return "done " + Base64.getEncoder().encodeToString(
            answer.getAttributesResponse().getEncoded());
    }

    static String enroll(String[] words) throws Exception {
        String[] proof = words[4].split(":");
        JsseESTServiceBuilder builder = builder(words[1]);
        ESTAuth auth = null;
        if (proof[0].equals("password")) {
            auth = new JcaHttpAuthBuilder(
                null, proof[1], proof[2].toCharArray())
                .setNonceGenerator(new SecureRandom())
                .setProvider("BC").build();
        } else if (proof[0].equals("token")) {
            auth = request ->
                request.setHeader("Authorization", "Bearer " + proof[1]);
        } else {
            KeyStore store = KeyStore.getInstance("PKCS12");
            store.load(null, null);
            store.setKeyEntry("device", keys.get(proof[1]).getPrivate(),
                new char[0],
                new X509Certificate[] {certificates.get(proof[1])});
            KeyManagerFactory managers = KeyManagerFactory.getInstance(
                KeyManagerFactory.getDefaultAlgorithm());
            managers.init(store, new char[0]);
            builder.withKeyManagers(managers.getKeyManagers());
        }
        asked = builder.build();
        PKCS10CertificationRequest request = request(words[2], words[3]);
        held = words[0].equals("serverkeygen")
            ? asked.simpleEnrollWithServersideCreation(request, auth)
            : asked.simpleEnroll(
                words[0].equals("simplereenroll"), request, auth);
        heldKey = words[3];
        return taken(held, heldKey, words[5]);
    }

    static String taken(EnrollmentResponse answer, String key, String file)
            throws Exception {
        if (!answer.isCompleted()) {
            held = answer;
            return "held";
        }
        X509CertificateHolder holder =
            ESTService.storeToArray(answer.getStore())[0];
        certificates.put(
            key, new JcaX509CertificateConverter().getCertificate(holder));
        if (answer.getPrivateKeyInfo() == null) {
            write(file, holder);
        } else {
            write(file, holder, answer.getPrivateKeyInfo());
        }
        return "done";
    }

    static JsseESTServiceBuilder builder(String label) throws Exception {
        JsseESTServiceBuilder builder = new JsseESTServiceBuilder(
            server, JcaJceUtils.getCertPathTrustManager(anchors, null))
            .withTimeout(10000);
        if (!label.equals("-")) {
            builder.withLabel(label);
        }
        return builder;
    }

    static PKCS10CertificationRequest request(String name, String key)
            throws Exception {
        if (!keys.containsKey(key)) {
            KeyPairGenerator generator = KeyPairGenerator.getInstance("EC");
            generator.initialize(new ECGenParameterSpec("secp256r1"));
            keys.put(key, generator.generateKeyPair());
        }
        PKCS10CertificationRequestBuilder builder =
            new JcaPKCS10CertificationRequestBuilder(
                new X500Name("CN=" + name), keys.get(key).getPublic());
        ExtensionsGenerator extensions = new ExtensionsGenerator();
        extensions.addExtension(Extension.subjectAlternativeName, false,
            new GeneralNames(new GeneralName(GeneralName.dNSName, name)));
        builder.addAttribute(
            PKCSObjectIdentifiers.pkcs_9_at_extensionRequest,
            extensions.generate());
        return builder.build(
            new JcaContentSignerBuilder("SHA256withECDSA")
                .build(keys.get(key).getPrivate()));
    }

    static void write(String file, Object... all) throws Exception {
        try (JcaPEMWriter out = new JcaPEMWriter(
                new FileWriter(new File(file)))) {
            for (Object one : all) {
                out.writeObject(one);
            }
        }
    }
}
